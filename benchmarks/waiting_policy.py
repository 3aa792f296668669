"""Question: how should torch's threads wait for each other, so that training does not suffer where other programs want the same cores?

torch's wheels for Linux compute in threads of libgomp, which spin while they wait for the last of them. On a quiet machine that is the
quickest way; on a busy one they spin on cores that the others need. A small_cnn trains on random 28x28 images in a process of its own
for each way of waiting, in turn, first alone and then beside programs that keep every core busy.

    python benchmarks/waiting_policy.py [--rounds 3] [--seconds 6]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

WAYS: dict[str, dict[str, str]] = {
    "libgomp's own": {},
    "spin 100,000": {"GOMP_SPINCOUNT": "100000"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SET_HERE = {name for way in WAYS.values() for name in way}


def measure(seconds: float) -> float:
    """Images per second of training."""
    from training_loop import BATCH, build, train_by_hand

    job = build(10 * BATCH, 27)
    train_by_hand(job)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        train_by_hand(job)
        count += 10 * BATCH
    return count / (time.perf_counter() - started)


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """So many programs that compute without end."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def run_way(name: str, seconds: float) -> float:
    """Images per second in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in SET_HERE} | WAYS[name]
    command = [sys.executable, __file__, "--seconds", str(seconds), "--here"]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--here", action="store_true", help="measure once, in this process")
    arguments = parser.parse_args()
    if arguments.here:
        print(measure(arguments.seconds))
        return
    cores = len(os.sched_getaffinity(0))
    for title, others in (("quiet", 0), ("busy", cores)):
        found: dict[str, list[float]] = {name: [] for name in WAYS}
        with busy_cores(others):
            for _ in range(arguments.rounds):
                for name in WAYS:
                    found[name].append(run_way(name, arguments.seconds))
        print(f"\n{title}, {cores} cores, {others} other programs")
        for name, speeds in found.items():
            ratios = [mine / own for mine, own in zip(speeds, found["libgomp's own"], strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"{name:14} {statistics.median(speeds):7.0f} images/s, times libgomp's own {spread}", flush=True)


if __name__ == "__main__":
    main()
