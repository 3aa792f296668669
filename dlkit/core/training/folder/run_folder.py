"""The run folder: a name that is never reused silently, a lock while it is in use, and what goes where."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlkit.errors import DlkitError, OutOfResource, OutputError
from dlkit.events import Emit, ignore
from dlkit.files import check_own, disk_error, write_json, write_text
from dlkit.run_folders import (
    EVALUATION_FILE,
    GIVEN_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    RESOLVED_FILE,
    RUN_FILE,
    SUMMARY_FILE,
    RunLock,
    read_mapping,
)

SKIPPED_FILE = "skipped.txt"

# what a run writes and nobody wants replaced: before it begins, and then
_FIRST = (GIVEN_FILE, RESOLVED_FILE, "train.log", SKIPPED_FILE)
_RESULTS = (METRICS_FILE, "metrics.csv", SUMMARY_FILE, MODEL_FILE, EVALUATION_FILE, PREDICTIONS_FILE)


@dataclass
class RunFolder:
    """A run folder that this process holds the lock of."""

    path: Path
    _lock: RunLock
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """The folder of last.pt and best.pt."""
        return self.path / "checkpoints"

    @property
    def model_path(self) -> Path:
        """The exported model file."""
        return self.path / MODEL_FILE

    def write_facts(self, **facts: Any) -> None:
        """Add to run.json and write it; None takes a fact away."""
        self.check_held()
        self.facts = {name: value for name, value in (self.facts | facts).items() if value is not None}
        write_json(self.path / RUN_FILE, self.facts)

    def write_configs(self, *, given: str | None, resolved: str) -> None:
        """Keep the config as it was given and as it was resolved."""
        if given is not None:
            write_text(self.path / GIVEN_FILE, given)
        write_text(self.path / RESOLVED_FILE, resolved)

    def write_skipped(self, problems: Sequence[str]) -> None:
        """List the samples that are left out, a line for each, if there are any."""
        if problems:
            write_text(self.path / SKIPPED_FILE, "".join(f"{' '.join(problem.split())}\n" for problem in problems))

    def check_held(self) -> None:
        """Raise OutputError when a run on another machine has taken this folder over."""
        self._lock.check()

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def holds_results(path: Path) -> bool:
    """Whether a run has left something in this folder that a new start would lose."""
    return (path / MODEL_FILE).exists() or any((path / "checkpoints").glob("*.pt"))


def create_run_folder(*, out: Path | None, parent: Path, name: str, emit: Emit = ignore) -> RunFolder:
    """Make `parent/name-NNN` with the next free number, or exactly `out`.

    Raises OutputError when the folder cannot be made or written to, or when `out` holds a run already
    or files of the names that a run writes.
    """
    if out is None:
        return _open_folder(_next_free(parent, name), emit)
    if (out / RUN_FILE).exists():
        raise OutputError(f"{out} holds a run already; continue it with --resume, or give another --out")
    if foreign := _foreign_files(out):
        raise OutputError(
            f"{out} holds {', '.join(foreign)} of something else, which a run would replace; give another --out"
        )
    _make(out)
    return _open_folder(out, emit)


def _foreign_files(out: Path) -> list[str]:
    """What stands in a folder without run.json under the names that a run writes."""
    # with a lock it is a run that was killed before it began; its folder may be used
    names = _RESULTS if (out / ".lock").exists() else (*_FIRST, *_RESULTS)
    found = [name for name in names if os.path.lexists(out / name)]
    return found + sorted(f"checkpoints/{path.name}" for path in (out / "checkpoints").glob("*.pt"))


def _next_free(parent: Path, name: str) -> Path:
    _make(parent)
    taken = [
        int(entry.name.removeprefix(name + "-"))
        for entry in parent.glob(f"{name}-*")
        if entry.name.removeprefix(name + "-").isdigit()
    ]
    number = max(taken, default=0) + 1
    while True:
        path = parent / f"{name}-{number:03d}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise _unusable(path, "cannot make the run folder", error) from None


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, "cannot make this folder", error) from None


def reopen_run_folder(path: Path, emit: Emit = ignore) -> RunFolder:
    """Take the lock of a run folder that exists, and clear what a killed process left half-written.

    Raises OutputError when another process has the lock.
    """
    folder = _open_folder(path, emit)
    folder.facts = read_mapping(path / RUN_FILE)
    for leftover in (*path.glob(".tmp-*"), *folder.checkpoints.glob(".tmp-*")):
        leftover.unlink(missing_ok=True)
    return folder


def _open_folder(path: Path, emit: Emit) -> RunFolder:
    for name in (*_FIRST, *_RESULTS, RUN_FILE):
        check_own(path / name)
    try:
        (path / "checkpoints").mkdir(exist_ok=True)
        return RunFolder(path, RunLock(path, emit))
    except OSError as error:
        raise _unusable(path, "cannot write here", error) from None


def _unusable(path: Path, what: str, error: OSError) -> DlkitError:
    if isinstance(found := disk_error(path, error), OutOfResource):
        return found
    return OutputError(f"{path}: {what}: {error.strerror}; choose another folder with --out or runtime.out")


def check_writable(parent: Path) -> None:
    """Raise OutputError when runs cannot be written below this folder; makes nothing that stays."""
    existing = parent
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{parent}: cannot write here; choose another folder with --out or runtime.out")


def summary_of(facts: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what summary.json holds."""
    return {"schema": "dlkit.train/1", "name": facts.get("name"), "status": facts.get("status")} | dict(results)
