"""Claim: int8 networks keep the accuracy of their float ones, by the defaults of `dlkit quantize`.

For each network of benchmarks/nets and each seed: the float network (trained by `dlkit train benchmarks/nets/NET.yaml --seed S`
unless RUNS/NET-S/model.pt is there), then what `dlkit quantize --static` and `--qat` make of it, judged on the whole test split
of FashionMNIST. Everything is chosen on the training and validation splits. Targets: ResNet-18 loses at most 0.3 points static
and 0.1 by training, MobileNets 0.7 and 0.3, as means over three seeds.

    python benchmarks/quantize_accuracy.py [--runs FOLDER] [--nets resnet18 ...] [--seeds 0 1 2] [--modes static qat] [--out F.json]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NETS = Path(__file__).parent / "nets"
COLUMNS = ("net", "mode", "seed", "float %", "int8 %", "drop", "same class %", "size %", "kept", "seconds")
Row = dict[str, Any]


def main() -> None:
    """Measure and print; write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--nets", nargs="+", default=["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--modes", nargs="+", default=["static", "qat"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows: list[Row] = []
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for mode in arguments.modes:
        for net in arguments.nets:
            found = [measure(train(net, seed, arguments.runs), net, mode, seed) for seed in arguments.seeds]
            rows += found
            print(mean_line(found), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(rows, indent=1))


def train(net: str, seed: int, runs: Path) -> Path:
    """The model file of a float network; trains it if it is not there."""
    folder = runs / f"{net}-{seed}"
    if not (folder / "model.pt").exists():
        run("train", str(NETS / f"{net}.yaml"), "--seed", str(seed), "--out", str(folder), "--quiet")
    return folder / "model.pt"


def measure(model: Path, net: str, mode: str, seed: int) -> Row:
    """What the command reports of one network."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["quantize", str(model), f"--{mode}", "--no-latency", "--json", "-o", f"{folder}/int8.pt"]
        report = json.loads(run(*arguments))
    before, after = (report["comparison"][side]["scores"]["metrics"]["accuracy"] for side in ("before", "after"))
    training = report.get("training") or {}
    row = {
        "net": net,
        "mode": mode,
        "seed": seed,
        "float": before,
        "int8": after,
        "drop": 100 * (before - after),
        "agreement": report["comparison"]["agreement"]["same_top1"],
        "size": report["size_ratio"],
        "kept": training.get("kept", mode),
        "seconds": time.monotonic() - started,
    }
    print(line(row), flush=True)
    return row


def line(row: Row) -> str:
    """A row of the table."""
    percent = [f"{100 * row[name]:.2f}" for name in ("float", "int8")]
    rest = [
        f"{row['drop']:+.2f}",
        f"{100 * row['agreement']:.2f}",
        f"{100 * row['size']:.1f}",
        row["kept"],
        f"{row['seconds']:.0f}",
    ]
    return "| " + " | ".join([row["net"], row["mode"], str(row["seed"]), *percent, *rest]) + " |"


def mean_line(rows: list[Row]) -> str:
    """The mean over the seeds."""
    drops = [row["drop"] for row in rows]
    return f"| **{rows[0]['net']}** | **{rows[0]['mode']}** | mean of {len(rows)} | | | **{statistics.mean(drops):+.2f}** | | | | |"


def run(*arguments: str) -> str:
    """What a dlkit command prints. Raises CalledProcessError when it fails."""
    done = subprocess.run([sys.executable, "-m", "dlkit", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
