"""Claim: a run that is killed at any moment goes on as if nothing had been.

Small networks with convolution, batch norm and dropout are trained straight through, one for each drawn combination of optimizer,
schedule, accumulation, moving average, loader processes, samples in memory or not, mixup, by chance and not in the last epochs, early
stopping, drawn and repeated samples, images that grow, the mean of the last checkpoints and a teacher. Then the same again, in
processes that are forked after torch was imported once and get SIGKILL at a random moment of their whole life; after each kill the run
is resumed, until it ends. The whole training state, every line of metrics and model.pt must be the same bits.

Control: in a checkpoint from the middle each leaf of the training state is taken out, and each is set back to its value at the start.
The first must be refused or change the end; of the second those that change nothing are listed, as other leaves give them.

    python benchmarks/resume_kills.py [--kills 1000] [--seed 0] [--control] [--out FOLDER]
"""

import argparse
import copy
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from equal_runs import same

import dlkit
from dlkit.core.training import Resume
from dlkit.errors import DlkitError

SETTINGS: dict[str, list[Any]] = {
    "optimizer": [
        {"name": "sgd", "lr": 0.05, "momentum": 0.9}, {"name": "adamw", "lr": 0.01}, {"name": "rmsprop", "lr": 0.003},
        {"name": "muon", "lr": 0.02},
    ],
    "schedule": [
        "cosine", {"name": "plateau", "patience": 0, "factor": 0.5}, "onecycle", {"name": "step", "step_size": 2, "gamma": 0.3},
    ],
    "accumulate": [1, 3],
    "ema": [None, {"decay": 0.9}],
    "workers": [0, 2],
    "cache": ["memory", "none"],
    "mixup": [[], ["mixup"]],
    "mixing": [None, {"p": 0.5, "off_last_epochs": 1}],
    "early_stop": [None, {"patience": 2, "min_delta": 0.02}],
    "sampling": ["none", "balanced"],
    "repeats": [1, 3],
    "image_size": ["auto", {"from": 4, "to": 6}],
    "average": [None, 2],
    "taught": [False, True],
}  # fmt: skip
TEACHER = "teacher"
STATE = (
    "state_dict", "state_dict_ema", "optimizer", "learning_rates", "scaler", "meter", "best", "early_stopping", "position", "history",
    "num_skipped", "random",
)  # fmt: skip


def main() -> None:
    """Kill, compare, print; exit 1 for any difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        problems = kill_often(out, arguments.kills, random.Random(arguments.seed))
        if arguments.control:
            problems += drop_leaves(out)
    print("\n".join(problems) or "all the same bits as straight through")
    sys.exit(bool(problems))


def kill_often(out: Path, num_kills: int, draw: random.Random) -> list[str]:
    """Draw settings, kill and resume until there were enough kills; what differed."""
    problems: list[str] = []
    kills, runs, seen = 0, 0, Counter[str]()
    make_teacher(out)
    while kills < num_kills:
        chosen = {name: draw.choice(values) for name, values in SETTINGS.items()}
        config, folder = config_of(chosen, out, seed=draw.randrange(1000)), out / f"run-{runs}"
        begun = time.monotonic()
        run_child(config, folder / "straight", None)
        length = time.monotonic() - begun
        times = kill_until_done(config, folder / "killed", length * 0.6, draw)
        kills, runs = kills + times, runs + 1
        seen.update({f"{name}={json.dumps(value)}": times for name, value in chosen.items()})
        if different := differences(folder / "straight", folder / "killed"):
            problems.append(f"{json.dumps(chosen)} seed {config['seed']}: {', '.join(different)} differ")
            print(problems[-1], file=sys.stderr, flush=True)
        shutil.rmtree(folder)
        print(f"{kills} kills of {runs} runs", file=sys.stderr, flush=True)
    print(
        f"{kills} kills of {runs} runs, {runs - len(problems)} the same; least of a setting: {min(seen.values())} kills"
    )
    return problems


def make_teacher(out: Path) -> None:
    """Train the network that teaches where a setting says so."""
    plain = {name: values[0] for name, values in SETTINGS.items()}
    run_child(config_of(plain, out, seed=0), out / TEACHER, None)


def config_of(chosen: dict[str, Any], out: Path, *, seed: int) -> dict[str, Any]:
    """The config of a combination of settings; loader processes need samples that are not in memory."""
    is_loaded = chosen["cache"] == "none"
    return {
        "seed": seed,
        "data": {
            "name": "fake", "num_samples": 64, "shape": [1, 6, 6], "num_classes": 3, "batch_size": 8, "val": 0.25, "test": "none",
            "cache": chosen["cache"], "num_workers": chosen["workers"] if is_loaded else 0, "batch_transforms": chosen["mixup"],
            "mixing": chosen["mixing"] if chosen["mixup"] else None, "sampling": chosen["sampling"],
            "repeats": chosen["repeats"] if chosen["sampling"] == "none" else 1,
            "image_size": chosen["image_size"],
        },
        "model": {
            "name": "layers",
            "layers": [
                {"conv": {"out": 4, "kernel": 3}}, "batchnorm", "relu", {"dropout": 0.2}, "globalavgpool", {"linear": 8}, "relu",
                {"linear": "auto"},
            ],
        },
        "optimizer": chosen["optimizer"],
        "schedule": chosen["schedule"],
        "ema": chosen["ema"],
        "train": {
            "epochs": 5, "accumulate": chosen["accumulate"], "early_stop": chosen["early_stop"],
            "distill": {"teacher": str(out / TEACHER / "model.pt")} if chosen["taught"] else None,
        },
        "checkpoint": {"every_steps": 2, "keep": 2, "average": chosen["average"]},
        "log": {"tensorboard": False},
        "runtime": {"threads": 1, "device": "cpu"},
    }  # fmt: skip


def kill_until_done(config: dict[str, Any], folder: Path, length: float, draw: random.Random) -> int:
    """Begin or resume and kill, until an attempt comes to its end by itself; how many were killed."""
    kills = 0
    while not run_child(config, folder, draw.uniform(0, length)):
        kills += 1
        if kills > 200:
            raise RuntimeError(f"{folder} makes no progress")
        length *= 1.1  # so that it ends once
    return kills


def run_child(config: dict[str, Any], folder: Path, kill_after: float | None) -> bool:
    """Train in a forked process that is killed after a while; whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            resume = Resume(folder) if (folder / ".lock").exists() else None
            dlkit.train(config, out=folder, resume=resume)
            os._exit(0)
        except BaseException as error:
            print(f"{folder}: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{folder} ended with {code}")
    return code == 0


def differences(first: Path, second: Path) -> list[str]:
    """What differs between the ends of two runs."""
    one, other = end_of(first), end_of(second)
    return [key for key in one if not same(one[key], other[key])]


def end_of(folder: Path) -> dict[str, Any]:
    """Everything that a run leaves, without times."""
    state = read_state(folder / "checkpoints" / "last.pt")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row.rpartition(",")[0] for row in (folder / "metrics.csv").read_text().splitlines()]
    found = without_times({key: state[key] for key in STATE} | {"lines": lines})
    return {**found, "rows": rows, "model": dict(dlkit.load_model(folder / "model.pt").state_dict())}


def read_state(path: Path) -> dict[str, Any]:
    """What a checkpoint holds."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def without_times(value: Any) -> Any:
    """The value without the seconds that training took."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key != "train_s"}
    return [without_times(item) for item in value] if isinstance(value, list) else value


# the control


def drop_leaves(out: Path) -> list[str]:
    """Take each leaf out of a checkpoint, and set each back; which could be taken out unnoticed."""
    chosen = {name: values[-1] for name, values in SETTINGS.items()}
    chosen |= {
        "schedule": SETTINGS["schedule"][1],
        "workers": 0,
        "accumulate": 1,
    }
    config = config_of(chosen, out, seed=1)
    start, middle, straight = (copied(config, out / name, steps) for name, steps in (("a", 2), ("b", 16), ("c", None)))
    early = set(leaves(read_state(start / "checkpoints" / "last.pt")))
    unnoticed, idle, count = [], [], 0
    for path in leaves(read_state(middle / "checkpoints" / "last.pt")):
        count += 1
        for how in (
            ("taken out", "set back") if path in early else ("taken out",)
        ):  # columns of history are not there at first
            if not is_noticed(config, (start, middle, straight), path, how, out / "trial"):
                (unnoticed if how == "taken out" else idle).append(".".join(map(str, path)))
    print(f"control: {count} leaves; set back without effect: {', '.join(idle) or 'none'}")
    return [f"{name} can be taken out of a checkpoint" for name in unnoticed]


def copied(config: dict[str, Any], folder: Path, steps: int | None) -> Path:
    """A run that ends after so many steps, as if killed then: its last checkpoint is that of the whole run."""
    child = os.fork()
    if child == 0:
        if steps is not None:
            stop_after(steps)
        dlkit.train(config, out=folder)
        os._exit(0)
    os.waitpid(child, 0)
    return folder


def stop_after(steps: int) -> None:
    """End this process once a checkpoint of this step is written."""
    from dlkit import disk

    really_replace = disk.replace

    def replace(source: Path, target: Path) -> None:
        really_replace(source, target)
        if target.name == "last.pt" and read_state(target)["position"]["step"] >= steps:
            os._exit(0)

    disk.replace = replace


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all leaves of the training state; random state, moments and the like count as one each."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if path or key in STATE:
                yield from leaves(item, (*path, key))
    else:
        yield path


def is_noticed(
    config: dict[str, Any], runs: tuple[Path, Path, Path], path: tuple[Any, ...], how: str, trial: Path
) -> bool:
    """Whether a run that goes on from the changed checkpoint is refused or ends otherwise."""
    start, middle, straight = runs
    shutil.rmtree(trial, ignore_errors=True)
    shutil.copytree(middle, trial)
    last = trial / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    for other in last.parent.glob("*"):
        if other.name != "best.pt":
            other.unlink()
    change(state, torch.load(start / "checkpoints" / "last.pt", weights_only=True), path, how)
    torch.save(state, last)
    try:
        dlkit.train(config, out=trial, resume=Resume(last))
    except DlkitError:
        return True
    return bool(differences(straight, trial))


def change(state: Any, early: Any, path: tuple[Any, ...], how: str) -> None:
    """Take the leaf out of the state, or give it the value that it had early in the run."""
    for key in path[:-1]:
        state, early = state[key], early[key]
    if how == "taken out":
        del state[path[-1]]
    else:
        state[path[-1]] = copy.deepcopy(early[path[-1]])


if __name__ == "__main__":
    main()
