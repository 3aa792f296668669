"""Claim: the learning rate that `prune --finetune` picks from what the cut cost is close to the best of a grid, over networks, cuts
and lengths, and training on beats training the small network from new weights for as long.

Trains small networks, prunes each in several ways, trains it on at several shares of its config's rate (`none` is what the command
picks), and trains the same pruned network from new weights at the full rate:
for the epochs of fine-tuning, and for those of both. Prints accuracy on
3,000 held-out samples. Results are appended to a file of JSON lines, and what stands there is not measured again.

    python benchmarks/recovery_rates.py recovery.jsonl --runs /tmp/recovery [--only small_cnn] [--seeds 0 1]
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from training_anew import rate_of, train_anew

import dlkit
from dlkit.core.modelfile import read_model_file
from dlkit.core.training import train
from dlkit.events import ignore
from dlkit.prune import Amount, PruneRequest, open_for_pruning, parse_target, plan_paths, prune_model

SHARES = (0.03, 0.1, 0.3, 1.0, None)
FASHION = {"name": "FashionMNIST", "limit": 9000, "val": 1 / 3}
DIGITS = {"name": "digits", "val": 0.3}
NETS: Mapping[str, tuple[Mapping[str, Any], str, int]] = {
    "small_cnn digits 20": (DIGITS, "small_cnn", 20),
    "small_cnn fashion 1": (FASHION, "small_cnn", 1),
    "small_cnn fashion 8": (FASHION, "small_cnn", 8),
    "mlp fashion 8": (FASHION, "mlp", 8),
    "resnet_small digits 20": (DIGITS, "resnet_small", 20),
    "resnet_small fashion 2": (FASHION, "resnet_small", 2),
}
SHRUNK = {"is_structured": True, "is_shrunk": True, "round_to": 1}
CUTS: Mapping[str, Mapping[str, Any]] = {
    "macs 80%": {"target": parse_target("macs=80%"), **SHRUNK},
    "macs 50%": {"target": parse_target("macs=50%"), **SHRUNK},
    "macs 20%": {"target": parse_target("macs=20%"), **SHRUNK},
    "weights -80%": {"amount": Amount(share=0.8), "scope": "global"},
    "weights -95%": {"amount": Amount(share=0.95), "scope": "global"},
}
LENGTHS = (1, 4)


class Case(NamedTuple):
    """A trained network, a cut, epochs of training on, and the way: a share of the rate, or from new weights."""

    net: str
    cut: str
    epochs: int
    way: str
    seed: int


def cases(only: str, seeds: list[int]) -> Iterator[Case]:
    """All that is measured."""
    for seed in seeds:
        for net in NETS:
            for cut in CUTS:
                for epochs in LENGTHS:
                    ways = [*(str(share).lower() for share in SHARES), "new", "new both"]
                    yield from (Case(net, cut, epochs, way, seed) for way in ways if only in net)


def trained(case: Case, runs: Path) -> Path:
    """The model file of a network, trained when it is first asked for."""
    data, model, epochs = NETS[case.net]
    folder = runs / f"{case.net.replace(' ', '-')}-{case.seed}"
    if not (folder / "model.pt").exists():
        config = {"data": data, "model": model, "train": {"epochs": epochs}, "seed": case.seed, "eval": {"test": False}}
        train(config, out=folder)
    return folder / "model.pt"


def measure(case: Case, runs: Path) -> Mapping[str, float]:
    """Accuracy as trained, after the cut, and after what follows."""
    path = trained(case, runs)
    file = read_model_file(path)
    cut = prune(path, file, case, epochs=None, lr=None)
    if case.way.startswith("new"):
        extra = NETS[case.net][2] if case.way == "new both" else 0
        after = train_anew(Path(cut["path"]), epochs=case.epochs + extra)
    else:
        lr = None if case.way == "none" else float(case.way) * rate_of(file)
        after = prune(path, file, case, epochs=case.epochs, lr=lr)["after"]
    return {"before": cut["before"], "cut": cut["after"], "after": after}


def prune(path: Path, file: Any, case: Case, *, epochs: int | None, lr: float | None) -> dict[str, Any]:
    """Accuracies of one way of pruning, and the file that it left."""
    opened = open_for_pruning(file, data=None, needs_data=True, model=None, device="cpu", emit=ignore)
    request = PruneRequest(**CUTS[case.cut], epochs=epochs, lr=lr, seconds=None)
    paths = plan_paths(path, path.with_name("pruned.pt"), may_replace=True)
    made = prune_model(opened, request, paths, emit=ignore).comparison
    scores = [side.scores.metrics["accuracy"] for side in (made.before, made.after)]
    return {"before": scores[0], "after": scores[1], "path": path.with_name("pruned.pt")}


def table(results: Mapping[Case, Mapping[str, float]]) -> list[str]:
    """A row for each network, cut and length: accuracies, in percent."""
    ways = list(dict.fromkeys(case.way for case in results))
    lines = ["| network | cut | epochs | as trained | cut | " + " | ".join(ways) + " |", "|---" * (len(ways) + 5) + "|"]
    for net, cut, epochs in dict.fromkeys(case[:3] for case in results):
        found = {case.way: value for case, value in results.items() if case[:3] == (net, cut, epochs)}
        first = next(iter(found.values()))
        cells = [f"{100 * found[way]['after']:.2f}" if way in found else "" for way in ways]
        lines.append(
            f"| {net} | {cut} | {epochs} | {100 * first['before']:.2f} | {100 * first['cut']:.2f} | "
            + " | ".join(cells)
            + " |"
        )
    return lines


def main() -> None:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trained networks")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    print(f"dlkit {dlkit.__version__}")
    lines = arguments.file.read_text().splitlines() if arguments.file.exists() else []
    results = {Case(*key): value for key, value in map(json.loads, lines)}
    for case in cases(arguments.only, arguments.seeds):
        if case not in results:
            results[case] = measure(case, arguments.runs)
            print(*case, *(f"{value:.4f}" for value in results[case].values()), flush=True)
            with arguments.file.open("a") as file:
                file.write(json.dumps([list(case), results[case]]) + "\n")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
