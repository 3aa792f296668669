"""Claim: on imbalanced classes balanced sampling, weights per class and focal loss raise the macro recall over plain training.

Makes FashionMNIST long-tailed: the classes, in an order by seed, hold from 3,000 samples down to 30, each class a constant factor
less than the one before. Trains a small network of one size and length in each way and prints the macro recall on all 10,000
test images, and that of the three rarest classes, as mean and standard deviation over seeds.

    python benchmarks/imbalance.py [--seeds 0 1 2] [--epochs 10] [--only sampling]
"""

import argparse
import gzip
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.core.evaluation import EvalRequest, run_evaluation
from dlkit.core.modelfile import read_model_file
from dlkit.core.training import train

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
LARGEST, SMALLEST, NUM_RARE = 3000, 30, 3
WAYS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "sampling: balanced": {"data": {"sampling": "balanced"}},
    "sampling: {power: 0.5}": {"data": {"sampling": {"power": 0.5}}},
    "class_weights: balanced": {"loss": {"name": "cross_entropy", "class_weights": "balanced"}},
    "focal": {"loss": {"name": "focal"}},
}


def write_data(path: Path, seed: int) -> np.ndarray:
    """Write the long-tailed set; return its classes from the most frequent to the rarest."""
    train_x, train_y, test_x, test_y = (
        np.frombuffer(gzip.decompress((FASHION / f"{part}-ubyte.gz").read_bytes()), np.uint8)
        for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    )
    train_x, test_x = (images[16:].reshape(-1, 28, 28) for images in (train_x, test_x))
    train_y, test_y = (labels[8:] for labels in (train_y, test_y))
    draw = np.random.default_rng(seed)
    order = draw.permutation(10)
    counts = np.geomspace(LARGEST, SMALLEST, len(order)).round().astype(int)
    kept = [
        draw.permutation(np.flatnonzero(train_y == label))[:count] for label, count in zip(order, counts, strict=True)
    ]
    rows = np.concatenate(kept)
    np.savez(path, x_train=train_x[rows], y_train=train_y[rows], x_test=test_x, y_test=test_y)
    return order


def recalls(way: str, path: Path, seed: int, epochs: int) -> np.ndarray:
    """Recall of each class on the test set after training in one way."""
    data = {"name": "npz", "path": str(path), "val": "none"}
    config = {"model": {"name": "small_cnn", "width": 16}, "train": {"epochs": epochs}, "log": {"tensorboard": False}}
    more = WAYS[way]
    values = {**config, **more, "data": {**data, **more.get("data", {})}, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        result = train(values, out=Path(folder) / "run")
        scores = run_evaluation(read_model_file(result.model_path), EvalRequest(split="test"))
    return np.array([row.recall for row in scores.per_class])


def words(values: list[float]) -> str:
    """Mean and standard deviation in percent."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f}"


def main() -> None:
    """Train in every way on every seed, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", default="", help="ways whose name holds this")
    arguments = parser.parse_args()
    ways = [way for way in WAYS if arguments.only in way]
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.npz"
            order = write_data(path, seed)
            for way in ways:
                scores = recalls(way, path, seed, arguments.epochs)
                found[way].append((float(scores.mean()), float(scores[order[-NUM_RARE:]].mean())))
                print(
                    f"seed {seed}  {way:24} macro recall {found[way][-1][0]:.4f}  rarest {found[way][-1][1]:.4f}",
                    flush=True,
                )
    print(f"\n| way | macro recall, % | the {NUM_RARE} rarest classes, % |\n|---|---|---|")
    for way, pairs in found.items():
        macro, rare = zip(*pairs, strict=True)
        print(f"| {way} | {words(list(macro))} | {words(list(rare))} |")


if __name__ == "__main__":
    main()
