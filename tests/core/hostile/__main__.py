"""Run hostile files against the commands that read them.

    python tests/core/hostile [--every N] [--mutants N] [--first SEED] [--step N] [--only TEXT] [--json FILE]

`--every 8` takes each eighth of the crafted files, `--step` the distance between the seeds of mutants, `--only` files with a text in
their name. Ends with 1 where anything happened that is not promised.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from crafted import crafted
from mutants import mutant
from originals import Originals, make_originals
from trials import Result, Trial, run_trials

TOLD_EVERY = 250


def main() -> None:
    """Make the files, run the commands, and print what came of them."""
    options = _options()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name).resolve()
        originals = _originals_in_child(folder)
        work, canary = folder / "work", folder / "canary"
        work.mkdir()
        trials: list[Trial] = [
            *crafted(originals, canary)[options.first % options.every :: options.every],
            *(mutant(originals, options.first + number * options.step) for number in range(options.mutants)),
        ]
        trials = [trial for trial in trials if options.only in trial.name]
        results = []
        for result in run_trials(trials, work):
            results.append(result)
            if result.faults:
                print(f"{result.name}: {', '.join(result.faults)}\n{result.words}", file=sys.stderr, flush=True)
            if not len(results) % TOLD_EVERY:
                print(f"{len(results):,} of {len(trials):,} files", file=sys.stderr, flush=True)
                _save(options.json, summarize(results, canary.exists(), time.monotonic() - begun), results)
        has_run = canary.exists()
    report = summarize(results, has_run, time.monotonic() - begun)
    print(json.dumps(report, indent=2))
    _save(options.json, report, results)
    sys.exit(bool(report["faults"] or has_run))


def _save(path: Path | None, report: dict[str, Any], results: Sequence[Result]) -> None:
    """A long run may be ended before its end."""
    if path:
        path.write_text(json.dumps(report | {"results": [result.__dict__ for result in results]}), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _originals_in_child(folder: Path) -> Originals:
    """The parent itself never runs torch, so that its children can be forked."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sys.stdout = sys.stderr
            make_originals(folder / "originals")
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        sys.exit("the sound files cannot be made")
    return Originals(folder / "originals")


def summarize(results: list[Result], has_run: bool, seconds: float) -> dict[str, object]:
    """The counts that the documentation quotes."""
    codes = Counter(str(code) for result in results for code in result.codes)
    return {
        "files": len(results),
        "mutants": sum(result.name.startswith("mutant") for result in results),
        "commands": sum(codes.values()),
        "exit codes": dict(sorted(codes.items())),
        "code executed": int(has_run)
        + sum("wrote to" in fault or "(" in fault for result in results for fault in result.faults),
        "tracebacks": sum("traceback" in result.faults for result in results),
        "exit 1": sum("exit 1" in result.faults for result in results),
        "faults": sum(bool(result.faults) for result in results),
        "most seconds": max((result.seconds for result in results), default=0.0),
        "most megabytes": max((result.megabytes for result in results), default=0.0),
        "wall seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
