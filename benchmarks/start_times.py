"""Claim: commands that only calculate answer within 0.35 s, because they start without importing torch.

Starts each command in turn with `python -c pass`, round after round, and prints median, least and greatest wall time and the
ratio to the bare interpreter, round by round. Commands that are not there (yet) are left out.

    python benchmarks/start_times.py [--rounds 15]
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BARE = "python -c pass"
COMMANDS = (
    "--help",
    "lr-plot cosine --lr 0.1 --epochs 90 --steps-per-epoch 391",
    "shapecalc conv --k 3 --s 2",
)
IMPORTS = (
    "import sys\nfrom dlkit.cli.app import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
)


def start(arguments: list[str]) -> tuple[float, int]:
    """Wall seconds and the exit status of a Python process."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started, done.returncode


def find_cases() -> dict[str, list[str]]:
    """The bare interpreter and the commands that work here, none of which may have imported torch."""
    cases = {BARE: ["-c", "pass"]}
    for command in COMMANDS:
        words = command.split()
        if start(["-m", "dlkit", *words])[1] != 0:  # also compiles what is not compiled yet
            print(f"left out: dlkit {command}")
        elif start(["-c", IMPORTS, *words])[1] != 0:
            sys.exit(f"dlkit {command} imports torch")
        else:
            cases[f"dlkit {command}"] = ["-m", "dlkit", *words]
    return cases


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f}"
        f", {rounds} rounds"
    )
    cases = find_cases()
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, arguments in cases.items():
            times[name].append(start(arguments)[0])
    width = max(map(len, cases))
    for name, found in times.items():
        ratios = [seconds / bare for seconds, bare in zip(found, times[BARE], strict=True)]
        spread = f"{min(found) * 1000:.0f} to {max(found) * 1000:.0f}"
        print(
            f"{name:{width}}  {statistics.median(found) * 1000:6.0f} ms ({spread})   ratio {statistics.median(ratios):.1f}"
        )


if __name__ == "__main__":
    main()
