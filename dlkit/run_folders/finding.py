"""Run folders below a folder, those of a sweep's trials too."""

import os
from collections.abc import Iterator
from pathlib import Path

from dlkit.run_folders.layout import LOCK_FILE, RUN_FILE

_NO_RUNS = {"checkpoints", "tb"}  # in a run folder: many files, and never a run


def find_run_folders(folder: Path) -> list[Path]:
    """Returns the run folders below a folder, itself included, in the order of their names; links to folders are not followed."""
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # a folder that may not be read has no runs for us
        return
    names = {entry.name for entry in entries}
    if RUN_FILE in names or LOCK_FILE in names:
        yield folder
    for entry in entries:
        if entry.name not in _NO_RUNS and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name)
