"""Claim: a ResNet-18 on FashionMNIST loses half of its multiply-accumulates, or 80 % of its single weights, with fine-tuning
at a drop of at most 0.5 points of accuracy; with half of the MACs it runs at least 1.6 times as fast at batch 16 on 2 cores.

Takes networks that were trained by benchmarks/nets/resnet18.yaml, one folder RUNS/resnet18-SEED for each seed, shrinks and masks
each through the same code as `dlkit prune`, and prints a table with the mean over seeds. Writes resnet18.md and resnet18.json.

    python benchmarks/prune_resnet18.py RUNS --out /tmp/prune18 [--finetune 3] [--method l2] [--samples N] [--seconds 10]
"""

import argparse
import json
import re
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from training_anew import train_anew

from dlkit.config import LoadedConfig
from dlkit.core.benchmark import describe_machine
from dlkit.core.modelfile import read_model_file
from dlkit.core.trained_config import own_config
from dlkit.events import Event, Note
from dlkit.files import write_text
from dlkit.prune import Amount, PruneRequest, open_for_pruning, parse_target, plan_paths, prune_model

WANTED_DROP, WANTED_SPEEDUP, BATCH = 0.5, 1.6, 16


def requests(arguments: argparse.Namespace) -> dict[str, PruneRequest]:
    """What is measured, by name."""
    shared: dict[str, Any] = {"epochs": arguments.finetune, "lr": arguments.lr, "seconds": arguments.seconds}
    ways = {
        f"{arguments.target} left": PruneRequest(
            target=parse_target(arguments.target),
            method=arguments.method,
            scope=arguments.scope,
            is_structured=True,
            is_shrunk=True,
            iterations=arguments.iterations,
            round_to=arguments.round_to,
            skip=tuple(arguments.skip),
            **shared,
        ),
        "weights 80 %": PruneRequest(amount=Amount(share=0.8), scope="global", **shared),
    }
    return {name: way for name, way in ways.items() if arguments.only in (None, "shrink" if way.is_shrunk else "mask")}


def say(event: Event) -> None:
    """Notes, and nothing else."""
    if isinstance(event, Note):
        print("  note:", event.text, flush=True)


def measure(model: Path, name: str, request: PruneRequest, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network pruned one way: accuracy, MACs, sizes and latency before and after."""
    file = read_model_file(model)
    loaded = own_config(file)
    if arguments.samples:
        section = loaded.config.data.model_copy(update={"limit": arguments.samples})
        loaded = replace(loaded, config=loaded.config.model_copy(update={"data": section}))
    opened = open_for_pruning(
        file, data=loaded if arguments.samples else None, needs_data=True, model=None, device="cpu", emit=say
    )
    slug = re.sub(r"\W+", "-", name).strip("-")
    paths = plan_paths(model, arguments.out / f"{model.parent.name}-{slug}.pt", may_replace=True)
    started = time.monotonic()
    made = prune_model(opened, request, paths, emit=say).comparison
    row = made.speeds.row("after", "eager", BATCH) if made.speeds else None
    before, after = made.before, made.after
    return {
        "model": str(model),
        "way": name,
        "accuracy": [before.scores.metrics["accuracy"], after.scores.metrics["accuracy"]],
        "macs": [before.costs.macs, after.costs.macs],
        "parameters": [before.costs.num_parameters, after.costs.num_parameters],
        "gzip_bytes": [side.costs.sizes.gzip_bytes for side in (before, after) if side.costs.sizes],
        "speedup": [row.to_baseline.median, row.to_baseline.p10, row.to_baseline.p90] if row else None,
        "seconds": time.monotonic() - started,
        "anew": [train_anew(paths.model, epochs=epochs) for epochs in anew_epochs(loaded, arguments)],
    }


def anew_epochs(loaded: LoadedConfig, arguments: argparse.Namespace) -> list[float]:
    """Epochs of the baselines: those of fine-tuning, and those of the first training with them."""
    extra: float = arguments.finetune * arguments.iterations
    return [extra, extra + float(loaded.config.train.epochs or 0)] if arguments.anew else []


def line(found: dict[str, Any]) -> str:
    """A row of the table."""
    before, after = found["accuracy"]
    speedup = "{:.2f}x ({:.2f} to {:.2f})".format(*found["speedup"]) if found["speedup"] else ""
    cells = [
        Path(found["model"]).parent.name,
        found["way"],
        f"{before:.2%}",
        f"{after:.2%}",
        f"{100 * (after - before):+.2f}",
        f"{found['macs'][1] / found['macs'][0]:.1%}",
        f"{found['parameters'][1] / found['parameters'][0]:.1%}",
        f"{found['gzip_bytes'][1] / found['gzip_bytes'][0]:.1%}",
        speedup,
        *([f"{accuracy:.2%}" for accuracy in found["anew"]] or ["", ""]),
        f"{found['seconds']:.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def verdict(results: list[dict[str, Any]]) -> list[str]:
    """Means over seeds against what is wanted."""
    lines = []
    for name in dict.fromkeys(found["way"] for found in results):
        rows = [found for found in results if found["way"] == name]
        drop = statistics.mean(100 * (found["accuracy"][0] - found["accuracy"][1]) for found in rows)
        told = f"{name}: mean drop {drop:+.2f} points (wanted at most {WANTED_DROP}): {_word(drop <= WANTED_DROP)}"
        if name.endswith("left") and all(found["speedup"] for found in rows):
            speedup = statistics.mean(found["speedup"][0] for found in rows)
            told += f"; batch {BATCH} {speedup:.2f}x (wanted {WANTED_SPEEDUP}x): {_word(speedup >= WANTED_SPEEDUP)}"
        lines.append(told)
    return lines


def _word(holds: bool) -> str:
    return "reached" if holds else "MISSED"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pattern", default="resnet18-*")
    parser.add_argument("--finetune", type=float, default=3.0)
    parser.add_argument("--lr", type=float, default=None)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--method", default="l2")
    parser.add_argument("--scope", default="global")
    parser.add_argument("--target", default="macs=50%")
    parser.add_argument("--round-to", type=int, default=16, help="AVX-512 kernels take channels by 16")
    parser.add_argument("--skip", action="append", default=[], help="layers that are not shrunk, as a glob")
    parser.add_argument("--only", choices=("shrink", "mask"), help="leave the other one out")
    parser.add_argument("--samples", type=int, default=0, help="train on so many samples only, to try the script")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "--anew",
        action="store_true",
        help="also train the pruned networks from new weights, for the extra epochs and for all",
    )
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    models = sorted(path for path in arguments.runs.glob(f"{arguments.pattern}/model.pt"))
    if not models:
        raise SystemExit(f"no {arguments.pattern}/model.pt below {arguments.runs}")
    results = []
    for model in models:
        for name, request in requests(arguments).items():
            results.append(measure(model, name, request, arguments))
            print(line(results[-1]), flush=True)
    machine = describe_machine(torch.device("cpu"))
    lines = [
        f"{machine.cpu}, {machine.threads} threads, torch {machine.torch}; {arguments.finetune:g} epochs of fine-tuning",
        "",
        "| network | way | before | after | points | MACs | parameters | gzip | latency, batch 16 | anew, extra | anew, total | took |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *map(line, results),
        "",
        *verdict(results),
    ]
    print("\n".join(lines))
    write_text(arguments.out / "resnet18.md", "\n".join(lines) + "\n")
    write_text(arguments.out / "resnet18.json", json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
