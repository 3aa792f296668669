"""Claim: int8 networks keep the accuracy of their float ones. Trained for int8, ResNet-18 loses at most 0.1 points and
MobileNets at most 0.3 on the whole test split of FashionMNIST, as means over three seeds.

For each network and seed: a float network, trained by benchmarks/nets/NET.yaml unless RUNS/NET-SEED/model.pt is there; static
quantization; and quantization-aware training with dlkit's defaults, or the epochs that are given. All choices are made on the
validation split; the test split is looked at once. `agree` is the share of test images that int8 and float put in the same
class, `kernels` the share that the trained network puts in the same class before and after it is converted to int8 kernels
(on the validation split). `kept` is what `dlkit quantize --qat` would write.

    python benchmarks/quantize_accuracy.py [--runs FOLDER] [--nets resnet18 ...] [--seeds 0 1 2] [--epochs E] [--out F.json]
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dlkit
from dlkit.config.loaded import LoadedConfig
from dlkit.core.data.build import build_eval_split
from dlkit.core.evaluation.evaluate import Scoring
from dlkit.core.evaluation.predictions import Predictions, predict_split
from dlkit.core.evaluation.scores import summarize
from dlkit.core.modelfile import ModelFile, build_from_file, read_model_file
from dlkit.core.training.losses import build_loss
from dlkit.core.training.precision import pick_precision
from dlkit.core.training.tuning_config import pick_tuning_config
from dlkit.events import EpochDone, Event, Note
from dlkit.quantize.backends import pick_backend, pick_reduce
from dlkit.quantize.fx import quantized_engine
from dlkit.quantize.qat import EPOCHS, QatSettings, quantize_aware
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.static import quantize_static

NETS = Path(__file__).parent / "nets"
CPU = torch.device("cpu")
COLUMNS = (
    "net", "seed", "float", "static", "drop", "agree", "qat", "drop", "agree", "kernels", "kept", "static s", "qat s", "slowdown",
)  # fmt: skip


def main() -> None:
    """Measure and print; write JSON if asked to."""
    arguments = parse_arguments()
    facts = {
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "backend": pick_backend(arguments.backend),
        "epochs": arguments.epochs,
        "calibration": arguments.calibration,
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    rows = []
    for net in arguments.nets:
        for seed in arguments.seeds:
            rows.append(measure(net, seed, arguments))
            if arguments.out:
                arguments.out.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print_table(rows)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of NET-SEED/model.pt, trained if not there"
    )
    parser.add_argument("--nets", nargs="+", default=["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--calibration", type=int, default=1024, help="training images to calibrate on")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    return parser.parse_args()


def trained_file(net: str, seed: int, runs: Path) -> ModelFile:
    """The float network, trained now if it is not there."""
    folder = runs / f"{net}-{seed}"
    if not (folder / "model.pt").exists():
        print(f"training {net}, seed {seed}", flush=True)
        dlkit.train(NETS / f"{net}.yaml", overrides=[f"seed={seed}"], out=folder)
    return read_model_file(folder / "model.pt")


def measure(net: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, quantize both ways, and judge all on the test split."""
    file = trained_file(net, seed, arguments.runs)
    network, loaded, info = build_from_file(file), pick_tuning_config(file, None), file.spec.info
    batches = calibration_batches(loaded, file, arguments.calibration)
    backend = pick_backend(arguments.backend)
    recipe = Recipe("static", backend, reduce=pick_reduce(backend))
    started = time.perf_counter()
    static = quantize_static(network, recipe, batches, example=batches[0])
    static_s = time.perf_counter() - started
    settings = QatSettings(loaded, info, CPU, epochs=arguments.epochs)
    started = time.perf_counter()
    kept, outcome = quantize_aware(
        network, recipe, settings, batches=batches, static=(static, recipe), report=lambda event: show(net, seed, event)
    )
    qat_s = time.perf_counter() - started
    found = judge({"float": network, "static": static, "qat": kept}, file, loaded, backend)
    row = {
        "net": net,
        "seed": seed,
        **found,
        "kernels": outcome.comparison.agreement,
        "kept": outcome.kept,
        "val": {name: dict(getattr(outcome.comparison, name)) for name in ("static", "fake_quant", "int8")},
        "static_s": static_s,
        "qat_s": qat_s,
        "step_ms": outcome.step_ms,
        "float_step_ms": outcome.float_step_ms,
    }
    print_table([row])
    return row


def show(net: str, seed: int, event: Event) -> None:
    """Notes and epochs."""
    if isinstance(event, Note):
        print(f"  {net}-{seed}: {event.text}", flush=True)
    if isinstance(event, EpochDone):
        print(f"  {net}-{seed}: epoch {event.epoch}, val accuracy {event.row['val_accuracy']:.4f}", flush=True)


def calibration_batches(loaded: LoadedConfig, file: ModelFile, count: int) -> list[Tensor]:
    """The first training images, as evaluation prepares them; FashionMNIST's are in no order."""
    split = build_eval_split(loaded, file.spec.info, split="train", device=CPU, batch_size=128)
    batches = []
    for batch in split.batches():
        if sum(map(len, batches)) >= count:
            break
        batches.append(batch.inputs)
    return batches


def judge(networks: dict[str, nn.Module], file: ModelFile, loaded: LoadedConfig, backend: str) -> dict[str, float]:
    """Accuracies on the test split, drops in points, and agreement with the float network."""
    split = build_eval_split(loaded, file.spec.info, split="test", device=CPU)
    loss = build_loss(loaded.config.loss, file.spec.info, targets=split.sample_targets, device=CPU)
    scoring = Scoring(loss, pick_precision("off", CPU), is_classification=True)
    with quantized_engine(backend):
        found = {name: predict_split(network, split, scoring) for name, network in networks.items()}
    accuracy = {name: summarize(predictions, scoring)["accuracy"] for name, predictions in found.items()}
    return {
        **accuracy,
        "static_drop": 100 * (accuracy["float"] - accuracy["static"]),
        "qat_drop": 100 * (accuracy["float"] - accuracy["qat"]),
        "static_agreement": agreement(found["float"], found["static"]),
        "qat_agreement": agreement(found["float"], found["qat"]),
    }


def agreement(one: Predictions, other: Predictions) -> float:
    """The share of samples in the same class."""
    return (one.outputs.argmax(1) == other.outputs.argmax(1)).float().mean().item()


def print_table(rows: list[dict[str, Any]]) -> None:
    """Markdown: a line for each run, and the mean drops of each network."""
    print("\n| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for row in rows:
        cells = [
            row["net"],
            str(row["seed"]),
            f"{row['float']:.2%}",
            f"{row['static']:.2%}",
            f"{row['static_drop']:.2f}",
            f"{row['static_agreement']:.2%}",
            f"{row['qat']:.2%}",
            f"{row['qat_drop']:.2f}",
            f"{row['qat_agreement']:.2%}",
            f"{row['kernels']:.2%}",
            row["kept"],
            f"{row['static_s']:.0f}",
            f"{row['qat_s']:.0f}",
            f"{row['step_ms'] / row['float_step_ms']:.1f}x",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
    for net in dict.fromkeys(row["net"] for row in rows) if len(rows) > 1 else ():
        own = [row for row in rows if row["net"] == net]
        means = [statistics.mean(row[name] for row in own) for name in ("static_drop", "qat_drop")]
        print(f"{net}: mean drop {means[0]:.2f} points static, {means[1]:.2f} points QAT, over {len(own)} seeds")


if __name__ == "__main__":
    main()
