"""Claim: when one of several processes of a run is killed at any time, all end within 45 s with an exit code that is not 0, and
the run goes on from its checkpoint as if nothing had been.

Trains a network with batch norm, dropout, moving average and accumulation by two processes, straight through. Then again, and
sends SIGKILL to a random rank at a random time, resumes, and so on until there were enough kills; then lets it finish. Weights,
optimizer, moving average, random state of every rank and the lines of the metrics must be the same bits.

    python benchmarks/rank_kills.py [--kills 20] [--nproc 2] [--seed 0] [--out FOLDER]
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from equal_runs import differences

CONFIG = """
data: {name: fake, num_samples: 1200, shape: [1, 8, 8], num_classes: 4, batch_size: 16}
model:
  name: layers
  layers: [{conv: {out: 8, kernel: 3}}, batchnorm, relu, {dropout: 0.2}, flatten, {linear: auto}]
optimizer: {name: adamw, lr: 0.003}
ema: {decay: 0.9}
train: {epochs: EPOCHS, accumulate: 2}
checkpoint: {every_steps: 7}
log: {tensorboard: false}
"""
EXACT = ("state_dict", "state_dict_ema", "optimizer", "position", "processes", "best", "learning_rates")


def main() -> None:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--nproc", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.yaml").write_text(CONFIG.replace("EPOCHS", str(arguments.epochs)))
        found = kill_often(out, arguments)
        straight(out, arguments.nproc)
        problems = differences(out / "straight", out / "killed", EXACT)
    print(json.dumps(found))
    print("\n".join(problems) or f"{found['kills']} kills: all the same bits as straight through")
    sys.exit(bool(problems or found["failures"]))


def command(out: Path, name: str, nproc: int, *more: str) -> list[str]:
    """The command line of a run."""
    run = [sys.executable, "-m", "dlkit", "train", str(out / "run.yaml"), "--nproc", str(nproc), "-q"]
    return [*run, "--out", str(out / name), *more]


def straight(out: Path, nproc: int) -> None:
    """The run that nobody disturbs."""
    subprocess.run(command(out, "straight", nproc), check=True, stdout=subprocess.DEVNULL)


def kill_often(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Kill and resume, then finish; how long everybody took to be gone."""
    draw = random.Random(arguments.seed)
    gone_s: list[float] = []
    failures: list[str] = []
    by_rank = [0] * arguments.nproc
    more: tuple[str, ...] = ()
    while len(gone_s) < arguments.kills:
        process = subprocess.Popen(
            command(out, "killed", arguments.nproc, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        ranks = wait_for_ranks(process.pid, arguments.nproc)
        wait_for_training(out / "killed", process)
        time.sleep(draw.uniform(0, 1.5))
        rank = draw.randrange(arguments.nproc)
        if process.poll() is not None:
            break  # finished before there were enough kills
        os.kill(ranks[rank], signal.SIGKILL)
        started = time.monotonic()
        _, errors = process.communicate(timeout=120)
        gone_s.append(time.monotonic() - started)
        by_rank[rank] += 1
        left = [pid for pid in ranks.values() if Path(f"/proc/{pid}").exists()]
        if process.returncode == 0 or left or gone_s[-1] > 45 or f"process {rank} of" not in errors:
            failures.append(
                f"kill {len(gone_s)}: exit {process.returncode}, left {left}, {gone_s[-1]:.1f} s, {errors!r}"
            )
        has_checkpoint = (out / "killed" / "checkpoints" / "last.pt").exists()
        more = ("--resume", str(out / "killed")) if has_checkpoint else ()
    subprocess.run(command(out, "killed", arguments.nproc, *more), check=True, stdout=subprocess.DEVNULL)
    return {
        "kills": len(gone_s),
        "by_rank": by_rank,
        "gone_s_median": round(statistics.median(gone_s), 2),
        "gone_s_most": round(max(gone_s), 2),
        "failures": failures,
    }


def wait_for_ranks(parent: int, nproc: int) -> dict[int, int]:
    """The processes by rank, as they say in their environment."""
    while True:
        found: dict[int, int] = {}
        for entry in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            try:
                variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            found |= {int(line[5:]): int(entry) for line in variables if line.startswith(b"RANK=")}
        if len(found) == nproc:
            return found
        time.sleep(0.02)


def wait_for_training(run: Path, process: "subprocess.Popen[str]") -> None:
    """Until this attempt has begun to write lines of steps."""
    metrics = run / "metrics.jsonl"
    began = metrics.stat().st_mtime if metrics.exists() else 0.0
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_mtime > began):
        time.sleep(0.02)


if __name__ == "__main__":
    main()
