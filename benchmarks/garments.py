"""Claim: a U-Net learns the garments of examples/garments.py to a test mIoU of 75 % in 5 minutes on 2 cores, and compression keeps that.

For each seed: `dlkit train examples/garments.yaml` (unless RUNS/garments-SEED is there), then int8 by `quantize --static` and `--qat`
(1 epoch), half of the MACs by `prune --shrink --target macs=50% --finetune 4`, that in int8 too, and the float network and the int8 one
as ONNX files under ONNX Runtime. All are judged by mIoU over the pixels of the 800 test pictures. Goals: int8 within 1 point, half
of the MACs within 2 points, ONNX equal.

    python examples/garments.py garments
    python benchmarks/garments.py [--data garments] [--runs FOLDER] [--seeds 0 1 2] [--out benchmarks/results/garments.md]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from dlkit.core.data import build_eval_split
from dlkit.core.modelfile import read_model_file
from dlkit.core.scoring import SCORES
from dlkit.core.trained_config import own_config

CONFIG = Path(__file__).parents[1] / "examples" / "garments.yaml"
COLUMNS = ("seed", "training", "float", "static", "QAT", "half of the MACs", "that in int8", "ONNX", "ONNX, int8")
Row = dict[str, float]


def main() -> None:
    """Measure and print; write the table if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("garments"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(train(seed, arguments.data, arguments.runs), seed, Path(folder)))
        print(line_of(rows[-1]), flush=True)
    rows.append({name: statistics.mean(row[name] for row in rows) for name in COLUMNS})
    head = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|"
    table = "\n".join([head, *map(line_of, rows[:-1]), line_of(rows[-1], "mean")])
    print(table)
    if arguments.out:
        arguments.out.write_text(table + "\n")


def train(seed: int, data: Path, runs: Path) -> Path:
    """The run folder of a seed; trains it if it is not there."""
    folder = runs / f"garments-{seed}"
    if not (folder / "model.pt").exists():
        run("train", str(CONFIG), f"data.path={data}", "--seed", str(seed), "--out", str(folder), "--quiet")
    return folder


def measure(folder: Path, seed: int, scratch: Path) -> Row:
    """The test mIoU of a run and of all that is made of it."""
    model = folder / "model.pt"
    static, qat, half, half_int8, onnx, onnx_int8 = (
        scratch / name for name in ("static.pt", "qat.pt", "half.pt", "half_int8.pt", "float.onnx", "int8.onnx")
    )
    run("quantize", model, "--static", "--no-latency", "--json", "-o", static)
    run("quantize", model, "--qat", "--epochs", "1", "--no-latency", "--json", "-o", qat)
    run("prune", model, "--shrink", "--target", "macs=50%", "--finetune", "4", "--no-latency", "--json", "-o", half)
    run("quantize", half, "--static", "--no-latency", "--json", "-o", half_int8)
    run("export", model, "--format", "onnx", "-o", onnx)
    run("export", static, "--format", "onnx", "-o", onnx_int8)
    found = [
        *map(miou, (model, static, qat, half, half_int8)),
        miou_of_onnx(onnx, model),
        miou_of_onnx(onnx_int8, model),
    ]
    seconds = json.loads((folder / "summary.json").read_text())["train_s"]
    return dict(zip(COLUMNS, [seed, seconds, *found], strict=True))


def miou(model: Path) -> float:
    """What `dlkit eval` says, in percent."""
    return 100 * float(json.loads(run("eval", model, "--json"))["metrics"]["miou"])


def miou_of_onnx(path: Path, model: Path) -> float:
    """The same of an ONNX file made of the model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    file = read_model_file(model)
    info = file.spec.info
    scores, counts = SCORES[info.task](info), torch.zeros(info.num_outputs, info.num_outputs, dtype=torch.int64)
    for batch in build_eval_split(own_config(file), info, split="test", device=torch.device("cpu")).batches():
        (outputs,) = session.run(None, {"input": batch.inputs.numpy()})
        found = scores.counts(torch.from_numpy(outputs), batch.targets)
        assert found is not None
        counts += found
    return 100 * scores.judge(counts)["miou"]


def run(*words: object) -> str:
    """What a command prints; its end is this script's where it fails."""
    done = subprocess.run([sys.executable, "-m", "dlkit", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def line_of(row: Row, name: str = "") -> str:
    """A row of the table."""
    cells = [name or f"{row['seed']:.0f}", f"{row['training']:.0f} s", *(f"{row[key]:.2f} %" for key in COLUMNS[2:])]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
