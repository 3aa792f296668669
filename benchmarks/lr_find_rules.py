"""Claim: of the rules of `lr-find` the tenth of the minimum and the steepest place come closer to the best rate of a grid than
the valley does, which is why they are preferred in this order.

Runs `lr-find` on small jobs, trains each with the rate of each rule and with a grid of rates, and prints the lowest validation
loss of each, and of the rate that is recommended.

    python benchmarks/lr_find_rules.py [--only mlp]
"""

import argparse
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dlkit.config import load_mapping
from dlkit.core.training import run_range_test, train
from dlkit.errors import DlkitError
from dlkit.schedules import SweepPlan

GRID = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
DIGITS = {"name": "digits", "batch_size": 64}
FASHION = {"name": "FashionMNIST", "batch_size": 128, "limit": 4000}
CNN = {"name": "small_cnn", "width": 12}
MLP = {"name": "mlp", "hidden": [128]}
SGD, MOMENTUM = {"name": "sgd"}, {"name": "sgd", "momentum": 0.9}
ADAMW, ADAM = {"name": "adamw", "weight_decay": 0.05}, {"name": "adam"}
JOBS: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any], str, int]] = {
    "digits cnn adamw cosine": (DIGITS, CNN, ADAMW, "cosine", 15),
    "digits cnn momentum cosine": (DIGITS, CNN, MOMENTUM, "cosine", 15),
    "digits mlp adam onecycle": (DIGITS, MLP, ADAM, "onecycle", 15),
    "digits mlp sgd constant": (DIGITS, MLP, SGD, "constant", 30),
    "fashion cnn momentum cosine": (FASHION, CNN, MOMENTUM, "cosine", 4),
    "fashion cnn adamw constant": (FASHION, CNN, ADAMW, "constant", 4),
    "fashion mlp adam cosine": (FASHION, MLP, ADAM, "cosine", 6),
}


def lowest_loss(config: Mapping[str, Any], lr: float) -> float:
    """The lowest validation loss of a run with this rate."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            job = {**config, "optimizer": {**config["optimizer"], "lr": lr}}
            return min(float(row["val_loss"] or 0) for row in train(job, out=Path(folder) / "run").history)
        except DlkitError:
            return math.inf


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="jobs whose name holds this")
    only = parser.parse_args().only
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; validation loss (learning rate)")
    for name, (data, model, optimizer, schedule, epochs) in JOBS.items():
        if only not in name:
            continue
        config = {"data": data, "model": model, "optimizer": optimizer, "schedule": schedule}
        config |= {"train": {"epochs": epochs}, "log": {"tensorboard": False}}
        test = run_range_test(load_mapping(config), SweepPlan(hi=10.0)).test
        grid = {lr: lowest_loss(config, lr) for lr in GRID}
        best = min(grid, key=grid.__getitem__)
        print(f"{name:28} best of grid {grid[best]:.3f} ({best:g})")
        for each in test.suggestions:
            doubt = "" if each.is_reliable else "  unreliable"
            taken = "  recommended" if each == test.recommended else ""
            print(f"    {each.name:11} {lowest_loss(config, each.lr):.3f} ({each.lr:.2g}){doubt}{taken}", flush=True)


if __name__ == "__main__":
    main()
