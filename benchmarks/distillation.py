"""Question: what does `--distill` bring, where `dlkit prune --finetune` and `dlkit quantize --qat` train on?

ResNet-18 with 50 % and 25 % of its MACs left and MobileNetV3-small trained for int8, on FashionMNIST, each with and without the float
network as teacher, judged on the test split. Networks are trained first (benchmarks/nets) unless RUNS/NET-SEED/model.pt is there. Each
result is a line of a JSON file, and what stands there is not measured again, so that it can be run piece by piece; `--table` prints what is
there, with the mean, the spread over seeds and the mean of the differences.

    python benchmarks/distillation.py found.jsonl --runs /tmp/distillation [--net resnet18] [--amount 50%] [--seed 0] [--limit 6000]
    python benchmarks/distillation.py found.jsonl --table
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dlkit.config import load_config
from dlkit.core.modelfile import read_model_file
from dlkit.core.training import run_training
from dlkit.events import ignore
from dlkit.files import to_json
from dlkit.prune import PruneRequest, open_for_pruning, parse_target, plan_paths, prune_model
from dlkit.quantize import QuantizeRequest, run_quantization

NETS = Path(__file__).resolve().parent / "nets"
AMOUNTS = {"resnet18": ("50%", "25%"), "mobilenet_v3_small": ("int8",)}
SEEDS = (0, 1, 2)


class Case(NamedTuple):
    """A network, the share of its MACs that is left (or int8), the seed that it was trained with, and whether it is taught."""

    net: str
    amount: str
    seed: int
    is_distilled: bool


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """What is asked for."""
    for seed in arguments.seed or SEEDS:
        for net in arguments.net or AMOUNTS:
            for amount in AMOUNTS[net]:
                if arguments.amount in (None, amount):
                    yield from (Case(net, amount, seed, is_distilled) for is_distilled in (False, True))


def trained(case: Case, arguments: argparse.Namespace) -> Path:
    """The model file of a network, trained when it is first asked for."""
    folder: Path = arguments.runs / f"{case.net}-{case.seed}"
    if not (folder / "model.pt").exists():
        limit = [f"data.limit={arguments.limit}"] if arguments.limit else []
        loaded = load_config(NETS / f"{case.net}.yaml", overrides=[f"seed={case.seed}", "log.graph=false", *limit])
        run_training(loaded, out=folder)
    return folder / "model.pt"


def measure(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Accuracy on the test split of the float network and of what was made of it."""
    path = trained(case, arguments)
    started = time.monotonic()
    output = path.with_name(f"{case.amount.strip('%')}-{'taught' if case.is_distilled else 'alone'}.pt")
    made = (_quantize if case.amount == "int8" else _prune)(case, path, output, arguments.epochs)
    return {
        **case._asdict(),
        "epochs": arguments.epochs,
        "limit": arguments.limit,
        "before": made.before.scores.metrics["accuracy"],
        "after": made.after.scores.metrics["accuracy"],
        "loss": made.after.scores.metrics["loss"],
        "seconds": round(time.monotonic() - started, 1),
    }


def _prune(case: Case, path: Path, output: Path, epochs: float) -> Any:
    request = PruneRequest(
        target=parse_target(f"macs={case.amount}"),
        is_structured=True,
        is_shrunk=True,
        epochs=epochs,
        is_distilled=case.is_distilled,
        seconds=None,
    )
    opened = open_for_pruning(read_model_file(path), data=None, needs_data=True, model=None, device="auto", emit=ignore)
    return prune_model(opened, request, plan_paths(path, output, may_replace=True), emit=ignore).comparison


def _quantize(case: Case, path: Path, output: Path, epochs: float) -> Any:
    request = QuantizeRequest(
        mode="qat",
        output=output,
        epochs=epochs,
        is_distilled=case.is_distilled,
        keep="trained",
        seconds=None,
        is_forced=True,
        seed=case.seed,
    )
    return run_quantization(read_model_file(path), request, ignore).comparison


def read_found(path: Path) -> list[dict[str, Any]]:
    """What was measured before."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def print_table(found: list[dict[str, Any]]) -> None:
    """Mean and spread over seeds, with and without; the last column is the mean of the differences, seed by seed, and its spread."""
    print(
        "| network | epochs | seeds | float | alone | taught | taught - alone, points |\n|---|---|---|---|---|---|---|"
    )
    keys = dict.fromkeys((row["net"], row["amount"], row["epochs"], row["limit"]) for row in found)
    for key in keys:
        rows = [row for row in found if (row["net"], row["amount"], row["epochs"], row["limit"]) == key]
        alone, taught = ({row["seed"]: row for row in rows if row["is_distilled"] is is_on} for is_on in (False, True))
        seeds = sorted(set(alone) & set(taught))
        if not seeds:
            continue
        points = [100 * (taught[seed]["after"] - alone[seed]["after"]) for seed in seeds]
        name = f"{key[0]}, {key[1]}" + (f", {key[3]} training samples" if key[3] else "")
        cells = [name, f"{key[2]:g}", str(len(seeds)), _share([alone[seed]["before"] for seed in seeds])]
        cells += [_share([side[seed]["after"] for seed in seeds]) for side in (alone, taught)]
        print(f"| {' | '.join(cells)} | {statistics.mean(points):+.2f}{_spread(points)} |")


def _share(values: list[float]) -> str:
    percent = [100 * value for value in values]
    return f"{statistics.mean(percent):.2f}%{_spread(percent)}"


def _spread(values: list[float]) -> str:
    return f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""


def main() -> None:
    """Measure what is not there yet, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("/tmp/distillation"))
    parser.add_argument("--net", action="append", choices=AMOUNTS)
    parser.add_argument("--amount")
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--epochs", type=float, default=2.0, help="of training on")
    parser.add_argument("--limit", type=int, help="training samples, for a quick look")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print_table(read_found(arguments.found))
        return
    for case in cases(arguments):
        wanted: Mapping[str, Any] = {**case._asdict(), "epochs": arguments.epochs, "limit": arguments.limit}
        if any(wanted.items() <= row.items() for row in read_found(arguments.found)):
            continue
        line = to_json(measure(case, arguments))
        with arguments.found.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
