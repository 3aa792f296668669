"""Claim: metrics, records, TensorBoard and progress together take less than 2 % of a training step, and training holds at most 1.1
times the memory of a plain loop.

What a step costs beside its network does not depend on the network, so it is measured where that is small: a linear layer on
the real FashionMNIST, batch 128, one thread, in turns. A loop by hand over dlkit's own batches (forward, backward, fused AdamW and
nothing else); `dlkit.train` without screen and TensorBoard, which adds metrics, the schedule, a check of every loss and records; the
same with TensorBoard; and with progress drawn on a terminal too. Whole runs of two lengths are compared, so that only steps
count. Prints CPU time of a step beyond that of the loop by hand, and its share of a step of `small_cnn` (94k parameters). `--memory`
trains in processes of their own and prints their peaks.

    python benchmarks/small_costs.py [--rounds 5] [--steps 1500] [--memory]
"""

import argparse
import io
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from training_loop import train_by_hand

import dlkit
from dlkit.cli import display
from dlkit.config import load_mapping
from dlkit.core.training import build_job
from dlkit.events import Emit, ignore

BATCH, SHORT = 128, 200
SMALL_CNN = {"name": "small_cnn", "width": 27}


def settings(model: Any, steps: int, *, board: bool = False) -> dict[str, Any]:
    """A config of so many steps."""
    return {
        "data": {"name": "fashion_mnist", "batch_size": BATCH, "val": "none", "transforms": ["RandomHorizontalFlip"]},
        "model": model,
        "optimizer": {"name": "adamw", "lr": 0.004},
        "train": {"epochs": 1000, "max_steps": steps},
        "eval": {"test": False},
        "log": {"tensorboard": board, "images": 0, "graph": False},
    }


def by_hand(model: Any, steps: int) -> float:
    """CPU seconds of the plainest loop over the same batches."""
    job = build_job(load_mapping(settings(model, steps)), emit=ignore)
    started = time.process_time()
    train_by_hand(job)
    per_step = (time.process_time() - started) / job.data.train.num_batches
    return per_step * steps


def by_dlkit(model: Any, steps: int, *, board: bool = False, emit: Emit = ignore) -> float:
    """CPU seconds of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        dlkit.train(settings(model, steps, board=board), out=Path(folder) / "run", emit=emit)
        return time.process_time() - started


def draw(model: Any, steps: int) -> float:
    """The same with TensorBoard and live bars on a terminal that keeps nothing."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    display.stderr_console = lambda: terminal
    with display.open_display(quiet=False, verbose=False, as_json=False) as screen:
        return by_dlkit(model, steps, board=True, emit=screen.emit)


def peak_mib(way: str) -> float:
    """The most memory that a process of its own held while it trained 200 steps of small_cnn."""
    done = subprocess.run([sys.executable, __file__, "--peak", way], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", choices=["by hand", "dlkit"], help="train here, and print the peak of this process")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        (by_hand if arguments.peak == "by hand" else by_dlkit)(SMALL_CNN, SHORT)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    elif arguments.memory:
        hand, own = peak_mib("by hand"), peak_mib("dlkit")
        print(f"by hand {hand:.0f} MiB, dlkit {own:.0f} MiB: {own / hand:.2f} times")
    else:
        measure(arguments.rounds, arguments.steps)


def measure(rounds: int, steps: int) -> None:
    """Time of a step by every way."""
    linear = {"name": "mlp", "hidden": []}
    ways: dict[str, Callable[[int], float]] = {
        "by hand": lambda count: by_hand(linear, count),
        "dlkit": lambda count: by_dlkit(linear, count),
        "with TensorBoard": lambda count: by_dlkit(linear, count, board=True),
        "with progress too": lambda count: draw(linear, count),
    }
    small_cnn = by_hand(SMALL_CNN, 1)
    print(f"torch {torch.__version__}, one thread; a step of small_cnn by hand {1e3 * small_cnn:.1f} ms of CPU time")
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append((way(SHORT + steps) - way(SHORT)) / steps)
    for name, times in found.items():
        beyond = [1e6 * (own - hand) for own, hand in zip(times, found["by hand"], strict=True)]
        middle = statistics.median(beyond)
        print(
            f"{name:18} {1e6 * statistics.median(times):5.0f} us, beyond the loop by hand {middle:4.0f} us ({min(beyond):.0f} to "
            f"{max(beyond):.0f}): {middle / small_cnn / 1e4:.2f} % of a step of small_cnn"
        )


if __name__ == "__main__":
    main()
