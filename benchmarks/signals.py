"""Claim: a signal that stops ends a run at any time with the right exit code, nothing half done and nothing lost, also where it
reaches the whole group of processes, the loader processes included.

Trains a network with batch norm, dropout, moving average and accumulation by one process and two loader processes, straight
through. Then again and again, with SIGINT, SIGTERM or SIGHUP at a random time between the first millisecond and the last, sent to
the process alone or to its group; after each the run goes on from what is there, until it is finished and compared with the
first: weights, optimizer, moving average, random state, history and the lines of the metrics must be the same bits.

    python benchmarks/signals.py [--single 50] [--group 50] [--seed 0] [--out FOLDER]
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from equal_runs import differences, same

CONFIG = """
data: {name: fake, num_samples: 640, shape: [1, 8, 8], num_classes: 4, batch_size: 16, cache: none, num_workers: 2}
model:
  name: layers
  layers: [{conv: {out: 8, kernel: 3}}, batchnorm, relu, {dropout: 0.2}, flatten, {linear: auto}]
optimizer: {name: adamw, lr: 0.003}
ema: {decay: 0.9}
train: {epochs: EPOCHS, accumulate: 2}
log: {tensorboard: false}
"""
EXACT = ("state_dict", "state_dict_ema", "optimizer", "position", "random", "best", "learning_rates", "early_stopping")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GONE_S = 2.0  # for the processes of the group to be gone after the run


@dataclass(frozen=True)
class Trial:
    """What one signal did. `phase` is how far the attempt had come."""

    to: str
    name: str
    phase: str
    code: int
    ended_s: float
    problems: tuple[str, ...]


def main() -> None:
    """Send all signals, compare the runs, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--single", type=int, default=50)
    parser.add_argument("--group", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.yaml").write_text(CONFIG.replace("EPOCHS", str(arguments.epochs)))
        started = time.monotonic()
        subprocess.run(command(out, "straight"), check=True, stdout=subprocess.DEVNULL)
        longest_s = time.monotonic() - started
        found, compared = run_trials(out, arguments, longest_s)
    show(found, compared, longest_s)
    sys.exit(any(trial.problems for trial in found))


def command(out: Path, name: str, *more: str) -> list[str]:
    """The command line of a run."""
    return [sys.executable, "-m", "dlkit", "train", str(out / "run.yaml"), "-q", "--out", str(out / name), *more]


def run_trials(out: Path, arguments: argparse.Namespace, longest_s: float) -> tuple[list[Trial], int]:
    """All trials, and how many runs were finished and compared."""
    draw = random.Random(arguments.seed)
    wanted = ["single"] * arguments.single + ["group"] * arguments.group
    draw.shuffle(wanted)
    found: list[Trial] = []
    compared = 0
    summary = json.loads((out / "straight" / "summary.json").read_text())
    train_s, steps = summary["train_s"], summary["steps"]
    while len(found) < len(wanted):
        lasts_s = longest_s - train_s * step_of(out / "stopped" / "checkpoints" / "last.pt") / steps
        trial = attempt(out, wanted[len(found)], draw.choice(SIGNALS), draw.uniform(0, lasts_s))
        if trial is not None:
            found.append(trial)
            print(f"{len(found)}: {trial}", flush=True)
        if (out / "stopped" / "summary.json").exists():
            problems = compare(out)
            compared += 1
            if problems:
                found[-1] = Trial(**vars(found[-1]) | {"problems": (*found[-1].problems, *problems)})
            shutil.rmtree(out / "stopped")
    return found, compared


def attempt(out: Path, to: str, number: signal.Signals, after_s: float) -> Trial | None:
    """Start or go on, send the signal, wait. None where the run had ended before the signal came."""
    run = out / "stopped"
    last = run / "checkpoints" / "last.pt"
    if not last.exists():
        shutil.rmtree(run, ignore_errors=True)
    before = step_of(last)
    process = subprocess.Popen(
        command(out, "stopped", *(["--resume", str(run)] if last.exists() else [])),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_all,
    )  # fmt: skip
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        phase = phase_of(run, process)
        started = time.monotonic()
        (os.killpg if to == "group" else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=120)
        ended_s = time.monotonic() - started
        problems = tuple(check(run, process, number, errors, before=before, phase=phase))
        return Trial(to, number.name, phase, process.returncode, round(ended_s, 2), problems)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return None


def heed_all() -> None:
    """Ignore no signal, where nohup or a shell's background does."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def phase_of(run: Path, process: "subprocess.Popen[str]") -> str:
    """How far an attempt has come."""
    if not is_begun(process):
        return "python"
    if facts_of(run).get("status") in {"running", "finished"}:
        return "ending" if (run / "model.pt").exists() else "running"
    return "start"


def is_begun(process: "subprocess.Popen[str]") -> bool:
    """Whether dlkit's first lines have run: it catches SIGTERM, which Python by itself does not."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def facts_of(run: Path) -> dict[str, Any]:
    """What run.json holds."""
    try:
        facts: dict[str, Any] = json.loads((run / "run.json").read_text())
    except FileNotFoundError:
        return {}
    return facts


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint stands at; 0 without one."""
    return int(torch.load(checkpoint, weights_only=True)["position"]["step"]) if checkpoint.exists() else 0


def check(
    run: Path, process: "subprocess.Popen[str]", number: int, errors: str, *, before: int, phase: str
) -> Iterator[str]:
    """What is wrong with how an attempt ended."""
    code, status, step = process.returncode, facts_of(run).get("status"), step_of(run / "checkpoints" / "last.pt")
    right = {128 + number}
    right |= {0} if status == "finished" and phase == "ending" else set()  # nothing was left to be stopped
    right |= {-number, 1} if phase == "python" else set()
    if code not in right:
        yield f"exit code {code}, status {status}: {errors!r}"
    if phase != "python" and ("Traceback" in errors or "rror" in errors):
        yield f"said {errors!r}"
    if status not in {None, "interrupted", "finished"}:
        yield f"status {status}"
    if step < before:
        yield f"step {step} after step {before}"
    if "saved." in errors and f"stopped at step {step}, saved" not in errors:
        yield f"{errors!r}, but the checkpoint holds step {step}"
    if left := list(run.rglob(".tmp-*")):
        yield f"left {left}"
    if processes := group_left(process.pid):
        yield f"left processes {processes}"


def group_left(group: int) -> list[int]:
    """Processes of a group that are still there after a moment."""
    end = time.monotonic() + GONE_S
    while True:
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if group_of(path) == group]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


def group_of(stat: Path) -> int | None:
    """The process group of a process that still runs."""
    try:
        state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return None
    return None if state == "Z" else int(group)


def compare(out: Path) -> list[str]:
    """What differs between the run that was stopped and the one that was not."""
    runs = (out / "straight", out / "stopped")
    weights = [torch.load(run / "model.pt", weights_only=True)["state_dict"] for run in runs]
    return differences(*runs, EXACT) + ([] if same(*weights) else ["model.pt differs"])


def show(found: list[Trial], compared: int, longest_s: float) -> None:
    """The counts."""
    for to in ("single", "group"):
        trials = [trial for trial in found if trial.to == to]
        right = sum(not trial.problems for trial in trials)
        ended = [trial.ended_s for trial in trials]
        if trials:
            print(
                f"{to}: {right} of {len(trials)} right; ended after {statistics.median(ended):.2f} s (median), {max(ended):.2f} s (most)"
            )
            print("   ", dict(Counter(trial.phase for trial in trials)), dict(Counter(trial.name for trial in trials)))
    print(f"{compared} runs finished, each the same bits as the straight one, which took {longest_s:.1f} s")


if __name__ == "__main__":
    main()
