"""Claims of `dlkit sweep`, on the digits: 20 trials of 9 epochs over learning rate, weight decay and width; a quarter of the training
split validates.

1. The best trial is at least as accurate on validation as the config itself.
2. ASHA trains at most 60 % of the epochs of the full search, for a best within 0.2 points. Both draw at random, so they try the same.
3. Two workers on one journal get SIGKILL twice, at random moments, and others go on: 20 trials, none lost and none run twice: each
   number has one outcome, and the files of each run hold each of its epochs once.

    python benchmarks/sweep.py [--seed 0] [--out FOLDER]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

TRIALS, EPOCHS = 20, 9
CONFIG = Path(__file__).resolve().parent.parent / "examples" / "digits.yaml"
COMMON = [f"train.epochs={EPOCHS}", "data.val=0.25", "log.tensorboard=false"]
SPACES = ["optimizer.lr=log:1e-4..1e-1", "optimizer.weight_decay=log:1e-3..0.3", "model.width=8,16,32"]


def main() -> None:
    """Run all three; exit 1 for a claim that does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        problems = compare_searches(out) + kill_workers(out / "killed", random.Random(arguments.seed))
    print("\n".join(problems) or "all claims hold")
    sys.exit(bool(problems))


def compare_searches(out: Path) -> list[str]:
    """The config itself, the full search, and ASHA."""
    subprocess.run(
        [*dlkit("train"), *COMMON, "--out", str(out / "default"), "--quiet"], check=True, stdout=subprocess.DEVNULL
    )
    default = json.loads((out / "default" / "summary.json").read_text())
    print(
        f"config itself  {default['best']['value']:.2%} on validation, {default['test']['accuracy']:.2%} on test",
        flush=True,
    )
    full, asha = (search(out / pruner, pruner) for pruner in ("none", "asha"))
    share, drop = asha["epochs"] / full["epochs"], 100 * (full["best"]["value"] - asha["best"]["value"])
    print(f"ASHA: {share:.0%} of the epochs, its best {drop:+.2f} points below that of the full search")
    problems = [f"{name}: worse than the config" for name, found in (("full", full), ("asha", asha))
                if found["best"]["value"] < default["best"]["value"]]  # fmt: skip
    return (
        problems
        + (["ASHA trains too much"] if share > 0.6 else [])
        + (["ASHA's best is too far"] if drop > 0.2 else [])
    )


def search(out: Path, pruner: str) -> dict[str, Any]:
    """A whole sweep."""
    started = time.monotonic()
    subprocess.run(worker(out, pruner, "random"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads((out / "sweep.json").read_text())
    best, counts = found["best"], Counter(trial["status"] for trial in found["trials"])
    print(
        f"--pruner {pruner:5} best {best['value']:.2%} on validation, {best['test']['accuracy']:.2%} on test, trial {best['number']}; "
        f"{found['epochs']} epochs, {dict(counts)}, {time.monotonic() - started:.0f} s"
    )
    return found


def kill_workers(out: Path, chance: random.Random) -> list[str]:
    """Two workers at once, killed twice, and one that ends it."""
    for number, lines in enumerate(sorted(chance.sample(range(20, 150), 2))):
        workers = [
            subprocess.Popen(worker(out, "asha"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in "12"
        ]
        while num_lines(out) < lines and any(process.poll() is None for process in workers):
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 2))
        for process in workers:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        print(
            f"kill {number + 1}: both workers, with {num_lines(out)} lines in the journal, {len(outcomes(out))} trials over"
        )
    workers = [
        subprocess.Popen(worker(out, "asha"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in "12"
    ]
    codes = [process.wait() for process in workers]
    found = json.loads((out / "sweep.json").read_text())
    ends = outcomes(out)
    print(
        f"then two workers to the end, exit codes {codes}: {len(found['trials'])} trials, {found['epochs']} epochs, "
        f"best {found['best']['value']:.2%} on validation"
    )
    problems = [] if [trial["number"] for trial in found["trials"]] == list(range(TRIALS)) else ["trials are missing"]
    problems += [f"trial {number} ended {count} times" for number, count in ends.items() if count != 1]
    return problems + ([] if len(ends) == TRIALS else [f"{len(ends)} trials ended"]) + [
        f"{folder.name}: epochs {epochs}" for folder in sorted(out.glob("trial-*"))
        if (epochs := epochs_of(folder)) != list(range(1, len(epochs) + 1))
    ]  # fmt: skip


def num_lines(out: Path) -> int:
    """The lines of the journal."""
    path = out / "journal.log"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def outcomes(out: Path) -> Counter[int]:
    """How often each trial was told to be over."""
    rows = [json.loads(line) for line in (out / "journal.log").read_text().splitlines()]
    return Counter(row["trial_id"] for row in rows if row["op_code"] == 6 and 1 <= row["state"] <= 3)


def epochs_of(folder: Path) -> list[int]:
    """The epochs in the metrics of a run, in their order."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["epoch"] for row in rows if row["event"] == "epoch"]


def worker(out: Path, pruner: str, sampler: str = "tpe") -> list[str]:
    """The command of a worker, the same for all."""
    return [
        *dlkit("sweep"),
        *SPACES,
        *COMMON,
        "--sampler",
        sampler,
        "--trials",
        str(TRIALS),
        "--pruner",
        pruner,
        "--out",
        str(out),
    ]


def dlkit(command: str) -> list[str]:
    """The beginning of a command."""
    return [sys.executable, "-m", "dlkit", command, str(CONFIG)]


if __name__ == "__main__":
    main()
