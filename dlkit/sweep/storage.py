"""Where a sweep is kept: a journal in its folder, or a data base that any number of machines reach."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study

from dlkit.errors import OutputError, UsageError, first_line
from dlkit.files import worded

JOURNAL = "journal.log"
_SPEC = "dlkit.sweep"
_TABLES_S = 2.0
_WAIT_S = 60  # for a data base in one file, which one writes at a time


class MendedJournal(JournalFileBackend):
    """A journal file whose lock ends with the process that has it, and whose last line, which a crash may have cut off, is dropped
    before the next is written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path, self._guard = path, FileLock(f"{path}.lock")

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines at the end, durably."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with worded(self._path), self._guard, self._path.open("r+b") as file:
            file.truncate(_whole_lines(file))
            file.seek(0, os.SEEK_END)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(file: BinaryIO) -> int:
    """The bytes up to the end of the last whole line."""
    end = file.seek(0, os.SEEK_END)
    tail = b""
    while end and b"\n" not in tail:
        start = max(0, end - 4096)
        file.seek(start)
        tail, end = file.read(end - start), start
    return end + tail.rfind(b"\n") + 1


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Open what `--storage` names, by default a journal in the sweep's folder. Raises UsageError where that cannot be."""
    if url is None or "://" not in url:
        path = folder / JOURNAL if url is None else Path(url)
        with worded(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(MendedJournal(path))
    try:
        return _open_data_base(url)
    except ImportError as error:
        raise UsageError(f"--storage {url}: its driver is not installed: {first_line(error, 200)}") from None
    except Exception as error:  # each data base has errors of its own
        raise UsageError(f"--storage {url}: cannot be opened: {first_line(error, 200)}") from None


def _open_data_base(url: str) -> BaseStorage:
    """Open a data base. Of workers that make its tables at the same moment all but one fail, and find them there a little later."""
    options = {"connect_args": {"timeout": _WAIT_S}} if url.startswith("sqlite:") else {}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except ImportError:
        raise
    except Exception:
        time.sleep(_TABLES_S)
        return RDBStorage(url, engine_kwargs=options)


def open_study(
    storage: BaseStorage, name: str, *, mode: str, sampler: BaseSampler, pruner: BasePruner, spec: dict[str, Any]
) -> Study:
    """Begin a sweep or join the one of this name. Raises OutputError, with a list, when that one searches something else."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="minimize" if mode == "min" else "maximize",
        sampler=sampler,
        pruner=pruner,
        load_if_exists=True,
    )
    spec = json.loads(json.dumps(spec))
    if _SPEC not in study.user_attrs:
        study.set_user_attr(_SPEC, spec)
    begun = study.user_attrs[_SPEC]
    if differing := sorted(_differences(begun, spec)):
        listed = "\n".join(f"  {line}" for line in differing)
        raise OutputError(
            f"the sweep {name} is there already, and searches something else:\n{listed}\nGive another --out for this one"
        )
    return study


def _differences(begun: Any, now: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(begun, dict) and isinstance(now, dict):
        for key in begun.keys() | now.keys():
            yield from _differences(begun.get(key), now.get(key), f"{prefix}.{key}" if prefix else key)
    elif begun != now:
        yield f"{prefix.removeprefix('config.')}: {json.dumps(begun)} there, {json.dumps(now)} now"


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna logs nothing but errors inside; what matters is told by events."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
