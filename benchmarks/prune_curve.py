"""Claim: choosing the smallest weights of the whole network keeps at least the accuracy of choosing them layer by layer, and
that at least the accuracy of choosing at random. The table says for which sparsities this holds.

Trains a small_cnn on FashionMNIST with three seeds, masks each at several ratios in the three ways, fine-tunes briefly and
scores the test split. Prints means with their spread over seeds as a table, and writes curve.md, curve.json and curve.png.

    python benchmarks/prune_curve.py --out /tmp/curve [--samples 20000] [--epochs 5] [--finetune 1] [--ratios 0.9] [--seeds 0,1,2]
"""

import argparse
import io
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from dlkit.core.evaluation import score_split
from dlkit.core.modelfile import read_model_file
from dlkit.core.training import train
from dlkit.events import ignore
from dlkit.files import write_bytes, write_text
from dlkit.prune import (
    Amount,
    OpenedModel,
    PruneRequest,
    Recovery,
    open_for_pruning,
    plan_masks,
    recover,
    run_mask_rounds,
)

RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
WAYS: dict[str, dict[str, Any]] = {
    "global": {"scope": "global", "method": "l1"},
    "layer-wise": {"scope": "layer", "method": "l1"},
    "random": {"scope": "layer", "method": "random"},
}
POINT = 0.001  # a tenth of a percent point of accuracy, which is as fine as the order is judged


def base_model(out: Path, seed: int, arguments: argparse.Namespace) -> tuple[Path, float]:
    """A trained network and its test accuracy."""
    values = {
        "seed": seed,
        "data": {
            "name": "fashion_mnist",
            "batch_size": 128,
            "limit": arguments.samples,
            "transforms": [{"name": "RandomCrop", "size": 28, "padding": 2}, "RandomHorizontalFlip"],
        },
        "model": {"name": arguments.model, "width": arguments.width},
        "optimizer": {"name": "adamw", "lr": 0.008, "weight_decay": 0.05},
        "schedule": {"name": "onecycle", "pct_start": 0.2},
        "train": {"epochs": arguments.epochs},
        "log": {"tensorboard": False},
    }
    result = train(values, out=out)
    return result.model_path, result.metrics["accuracy"]


def pruned_accuracy(
    opened: OpenedModel, ratio: float, way: dict[str, Any], seed: int, epochs: float
) -> tuple[float, float]:
    """Test accuracy of a masked copy, as it is after new batch-norm statistics, and after fine-tuning."""
    network, task_data = opened.original(), opened.task_data
    assert task_data is not None
    request = PruneRequest(amount=Amount(share=ratio), seed=seed, **way)
    plan = plan_masks(network, request, opened.example)
    masks, _ = run_mask_rounds(network, plan, request, task_data, rewound=None, emit=ignore)
    raw = score_split(network, task_data.reporting, task_data.scoring)["accuracy"]
    recover(network, masks, Recovery(epochs=epochs), task_data, emit=ignore)
    return raw, score_split(network, task_data.reporting, task_data.scoring)["accuracy"]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All points, with the accuracy of the unpruned networks."""
    points, bases = [], {}
    for seed in arguments.seeds:
        model, bases[seed] = base_model(arguments.out / f"seed-{seed}", seed, arguments)
        file = read_model_file(model)
        opened = open_for_pruning(file, data=None, needs_data=True, model=None, device="cpu", emit=ignore)
        for ratio in arguments.ratios:
            for name, way in WAYS.items():
                raw, tuned = pruned_accuracy(opened, ratio, way, seed, arguments.finetune)
                points.append({"seed": seed, "ratio": ratio, "way": name, "untuned": raw, "tuned": tuned})
                print(f"seed {seed}  {ratio:.0%} {name:10}  {raw:.2%} -> {tuned:.2%}", flush=True)
    return {"points": points, "bases": bases}


def means(points: list[dict[str, Any]], key: str) -> dict[tuple[float, str], tuple[float, float, float]]:
    """(mean, least, greatest) over seeds by ratio and way."""
    found = {}
    for ratio in sorted({point["ratio"] for point in points}):
        for way in WAYS:
            values = [point[key] for point in points if point["ratio"] == ratio and point["way"] == way]
            found[ratio, way] = (statistics.mean(values), min(values), max(values))
    return found


def table(results: dict[str, Any], key: str) -> list[str]:
    """Markdown rows: ratio, and each way's mean with its spread, and whether the order holds."""
    lines = ["| sparsity | " + " | ".join(WAYS) + " | global >= layer-wise >= random |", "|---" * (len(WAYS) + 2) + "|"]
    found = means(results["points"], key)
    for ratio in sorted({ratio for ratio, _ in found}):
        cells = [found[ratio, way] for way in WAYS]
        holds = all(first[0] >= second[0] - POINT for first, second in itertools.pairwise(cells))
        texts = [f"{mean:.2%} ({low:.2%} to {high:.2%})" for mean, low, high in cells]
        lines.append(f"| {ratio:.0%} | " + " | ".join(texts) + f" | {'yes' if holds else 'NO'} |")
    return lines


def draw(results: dict[str, Any]) -> bytes:
    """Accuracy after fine-tuning against sparsity, with the range over seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    found = means(results["points"], "tuned")
    ratios = sorted({ratio for ratio, _ in found})
    for way in WAYS:
        rows = [found[ratio, way] for ratio in ratios]
        (line,) = axes.plot(ratios, [row[0] for row in rows], marker="o", label=way)
        axes.fill_between(ratios, [row[1] for row in rows], [row[2] for row in rows], alpha=0.2, color=line.get_color())
    axes.axhline(statistics.mean(results["bases"].values()), color="grey", linestyle=":", label="unpruned")
    axes.set_xlabel("sparsity of the weights")
    axes.set_ylabel("test accuracy after fine-tuning")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="small_cnn")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--finetune", type=float, default=1.0)
    parser.add_argument("--ratios", type=lambda text: [float(part) for part in text.split(",")], default=list(RATIOS))
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    results = run(arguments)
    base = ", ".join(f"{accuracy:.2%}" for accuracy in results["bases"].values())
    lines = [
        f"{arguments.model}, width {arguments.width}, FashionMNIST with {arguments.samples} training samples, seeds "
        f"{arguments.seeds}; unpruned {base}; torch {torch.__version__}, {torch.get_num_threads()} threads",
        "",
        f"After {arguments.finetune:g} epochs of fine-tuning, test accuracy, mean and range over seeds:",
        "",
        *table(results, "tuned"),
        "",
        "Without fine-tuning, batch norm measured again:",
        "",
        *table(results, "untuned"),
        "",
        f"{time.monotonic() - started:.0f} s in all",
    ]
    print("\n".join(lines))
    write_text(arguments.out / "curve.md", "\n".join(lines) + "\n")
    write_text(arguments.out / "curve.json", json.dumps(results, indent=2) + "\n")
    write_bytes(arguments.out / "curve.png", draw(results))


if __name__ == "__main__":
    main()
