"""Claim: the learning rates that `optimizer.lr: auto` picks for dlkit's own networks are better than torch's default of 0.001 over
data sets and lengths of training, and close to the best of a grid wherever there are more than some 50 steps.

Trains each network on each job with AdamW and a cosine at each rate, with and without warm-up, and prints the accuracy on held-out
samples (R2 for regression), mean over seeds. Results are appended to a file of JSON lines, and what stands there is not measured again.

    python benchmarks/default_rates.py rates.jsonl [--only small_cnn] [--seeds 0 1]
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from dlkit.core.training import train
from dlkit.errors import Diverged

RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
WARMUPS = ("0st", "5%")
HOUSES = {
    "name": "csv",
    "path": str(Path(__file__).parent.parent / "examples" / "houses.csv"),
    "target": "price",
    "val": 0.3,
}


def fashion(samples: int, **options: Any) -> Mapping[str, Any]:
    """So many training samples of FashionMNIST, and 3,000 to judge by."""
    return {"name": "FashionMNIST", "limit": samples + 3000, "val": 3000 / (samples + 3000), **options}


class Work(NamedTuple):
    """A data set, the number of epochs, and what else differs from the shortest config."""

    data: Mapping[str, Any]
    epochs: int
    more: Mapping[str, Any] = {}


DIGITS = {"name": "digits", "val": 0.3}
WORK: Mapping[str, Mapping[str, Work]] = {
    "small_cnn": {
        "digits 5": Work(DIGITS, 5),
        "digits 40": Work(DIGITS, 40),
        "fashion 6k 1": Work(fashion(6000), 1),
        "fashion 6k 5": Work(fashion(6000), 5),
        "fashion 30k 1": Work(fashion(30000), 1),
        "fashion 30k 3, batch 32": Work(fashion(30000, batch_size=32), 3),
        "fashion 6k 5, batch 512": Work(fashion(6000, batch_size=512), 5),
    },
    "resnet_small": {
        "digits 5": Work(DIGITS, 5),
        "digits 40": Work(DIGITS, 40),
        "fashion 6k 1": Work(fashion(6000), 1),
        "fashion 6k 5": Work(fashion(6000), 5),
    },
    "mlp": {
        "digits 5": Work(DIGITS, 5),
        "digits 40": Work(DIGITS, 40),
        "fashion 30k 1": Work(fashion(30000), 1),
        "fashion 30k 10": Work(fashion(30000), 10),
        "houses 20": Work(HOUSES, 20),
        "houses 200": Work(HOUSES, 200),
    },
    "lstm": {
        "digits 5": Work(DIGITS, 5),
        "digits 40": Work(DIGITS, 40),
        "fashion 6k 1": Work(fashion(6000), 1),
        "fashion 6k 10": Work(fashion(6000), 10),
    },
}


def score(model: str, work: Work, *, lr: float, warmup: str, seed: int) -> float:
    """Accuracy, or R2 (targets are standardized), after the last epoch; 0 for a run that diverged."""
    config = {
        "data": work.data,
        "model": model,
        "optimizer": {"lr": lr},
        "schedule": {"name": "cosine", "warmup": warmup},
        "train": {"epochs": work.epochs},
        "eval": {"test": False},
        "log": {"tensorboard": False},
        "seed": seed,
        **work.more,
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            last = train(config, out=Path(folder) / "run").history[-1]
        except Diverged as error:
            print(f"  {error}", flush=True)
            return 0.0
    return float(last["val_accuracy"] if "val_accuracy" in last else 1 - last["val_loss"])


def jobs(only: str, seeds: list[int]) -> Iterator[tuple[str, str, float, str, int]]:
    """Every run, cheap networks first."""
    for seed, model in product(seeds, WORK):
        for name, lr, warmup in product(WORK[model], RATES, WARMUPS):
            if only in model:
                yield model, name, lr, warmup, seed


def table(results: Mapping[tuple[Any, ...], float], model: str) -> list[str]:
    """A row for each job, a column for each rate and warm-up: points below the best of the row."""
    columns = list(product(RATES, WARMUPS))
    lines = [f"| {model} | best | " + " | ".join(f"{lr:g}, {warmup}" for lr, warmup in columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    rows = []
    for name in WORK[model]:
        found = [[v for k, v in results.items() if k[:4] == (model, name, *column)] for column in columns]
        if all(found):
            means = [100 * statistics.mean(values) for values in found]
            rows.append([mean - max(means) for mean in means])
            lines.append(f"| {name} | {max(means):.2f} | " + " | ".join(f"{gap:+.2f}" for gap in rows[-1]) + " |")
    if rows:
        averages = [statistics.mean(column) for column in zip(*rows, strict=True)]
        lines.append("| mean | | " + " | ".join(f"{gap:+.2f}" for gap in averages) + " |")
    return lines


def main() -> None:
    """Measure what is missing, print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    lines = arguments.file.read_text().splitlines() if arguments.file.exists() else []
    results = {tuple(key): value for key, value in map(json.loads, lines)}
    for model, name, lr, warmup, seed in jobs(arguments.only, arguments.seeds):
        key = (model, name, lr, warmup, seed)
        if key not in results:
            results[key] = score(model, WORK[model][name], lr=lr, warmup=warmup, seed=seed)
            print(*key, f"{results[key]:.4f}", flush=True)
            with arguments.file.open("a") as file:
                file.write(json.dumps([key, results[key]]) + "\n")
    for model in WORK:
        print("\n".join(table(results, model)), end="\n\n")


if __name__ == "__main__":
    main()
