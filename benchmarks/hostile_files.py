"""Claim: no file can make dlkit run code, end with a traceback or exit code 1, take 1 GB more than the import, or work for 5 s.

Runs all crafted files of tests/core/hostile and as many mutants as asked for, in several processes with seeds of their own, and adds
their counts up. Linux only: children are forked, and their memory is limited.

    python benchmarks/hostile_files.py [--mutants 10000] [--processes 2] [--first SEED] [--json FILE]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HARNESS = Path(__file__).resolve().parent.parent / "tests" / "core" / "hostile"


def main() -> None:
    """Run the parts side by side and print what came of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-reports-") as name:
        folder = Path(name)
        running = [subprocess.Popen(_command(options, number, folder)) for number in range(options.processes)]
        codes = [process.wait() for process in running]
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.iterdir())]
    total = _added(reports)
    print(json.dumps(total, indent=2))
    if options.json:
        options.json.write_text(json.dumps(total), encoding="utf-8")
    sys.exit(max(codes))


def _command(options: argparse.Namespace, number: int, folder: Path) -> list[str]:
    """One part: each `processes`-th crafted file, and mutants with seeds that no other part has."""
    share = options.mutants // options.processes
    first = options.first * options.mutants + number
    return [
        *(sys.executable, str(HARNESS), "--every", str(options.processes), "--first", str(first)),
        *("--step", str(options.processes), "--mutants", str(share), "--json", str(folder / f"{number}.json")),
    ]


def _added(reports: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {"exit codes": Counter()}
    for report in reports:
        for name, value in report.items():
            if name == "exit codes":
                total[name].update(value)
            elif name.startswith("most") or name == "wall seconds":
                total[name] = max(total.get(name, 0), value)
            elif name != "results":
                total[name] = total.get(name, 0) + value
    return total | {"exit codes": dict(sorted(total["exit codes"].items()))}


if __name__ == "__main__":
    main()
