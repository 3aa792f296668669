"""A disk that dies, fills up or fails at a chosen call, and a run small enough to be made a hundred times."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import dlkit
from dlkit import disk
from dlkit.core.training import Resume
from dlkit.core.training.folder import read_checkpoint
from dlkit.run_folders import has_begun

CALLS = ("create", "append", "write", "sync", "replace", "link", "remove", "sync_folder")
GROWING = {"create", "append", "write", "link"}
TINY = {
    "data": {"name": "fake", "num_samples": 24, "shape": [4], "num_classes": 2, "batch_size": 8, "val": 0.25, "test": "none"},
    "model": {"name": "mlp", "hidden": [3]},
    "optimizer": {"name": "adamw", "lr": 0.1},
    "train": {"epochs": 2},
    "checkpoint": {"every_steps": 2, "keep": 2},
    "log": {"tensorboard": False},
    "runtime": {"threads": 1, "device": "cpu"},
}  # fmt: skip
STATE = ("state_dict", "optimizer", "position", "best", "random", "meter", "learning_rates")


class Died(BaseException):
    """The process is gone."""


class Disk:
    """Counts the calls of `dlkit.disk`, and from call `at` on does what `how` says: `die` before it, `tear` a write and die, be
    `full` from then on, or `fail` once.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = -1, how: str = "die") -> None:
        self.at, self.how, self.log = at, how, []
        for name in CALLS:
            monkeypatch.setattr(disk, name, self._wrapped(name, getattr(disk, name)))

    def _wrapped(self, name: str, real: Callable) -> Callable:
        def call(*arguments):
            number = len(self.log)
            self.log.append(name)
            if 0 <= self.at <= number:
                self._strike(name, number, arguments, real)
            return real(*arguments)

        return call

    def _strike(self, name, number, arguments, real):
        if self.how in ("die", "tear"):
            if self.how == "tear" and number == self.at and name == "write":
                file, data = arguments
                real(file, memoryview(data)[: len(data) // 2])
            raise Died
        if self.how == "full" and name in GROWING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.how == "fail" and number == self.at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def train_on(folder: Path, **changes) -> object:
    """What a user does after whatever happened: go on with the folder if a run began there, else begin."""
    resume = Resume(folder) if has_begun(folder) else None
    return dlkit.train(TINY | changes, out=folder, resume=resume)


def end_of(folder: Path) -> dict:
    """What must be the same after every crash."""
    state = read_checkpoint(folder / "checkpoints" / "last.pt")
    rows = (folder / "metrics.csv").read_text().splitlines()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    model = dlkit.load_model(folder / "model.pt").state_dict()
    return {key: state[key] for key in STATE} | {
        "rows": [row.rpartition(",")[0] for row in rows],
        "lines": [line.partition(', "train_s"')[0] for line in lines],
        "model": dict(model),
        "files": sorted(
            path.name for path in (*folder.glob("*"), *folder.glob("checkpoints/*")) if "step-" not in path.name
        ),
    }


@pytest.fixture
def crash(monkeypatch) -> SimpleNamespace:
    """The pieces above; `crash.disk()` puts a disk in place until the test ends or `crash.repair()`."""

    def repair() -> None:
        monkeypatch.undo()

    return SimpleNamespace(
        disk=lambda **options: Disk(monkeypatch, **options),
        repair=repair,
        train=train_on,
        end_of=end_of,
        died=Died,
        tiny=TINY,
    )
