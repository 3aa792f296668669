"""The calls by which dlkit changes a disk. All files that must survive a crash go through these few: tests count them, let each
of them fail, and end the process before, in and after each.
"""

import contextlib
import os
from pathlib import Path
from typing import BinaryIO


def create(path: Path) -> BinaryIO:
    """Open a new file to write. Raises FileExistsError where the name is taken."""
    return path.open("xb")


def append(path: Path) -> BinaryIO:
    """Open a file to write at its end, and make it if need be."""
    return path.open("ab")


def write(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all bytes."""
    file.write(data)
    file.flush()


def sync(file: BinaryIO) -> None:
    """Return when the file's bytes are on the disk itself."""
    os.fsync(file.fileno())


def replace(source: Path, target: Path) -> None:
    """Give a file another name in one step; what was under that name goes."""
    source.replace(target)


def link(source: Path, target: Path) -> None:
    """Put the same bytes under a second name."""
    os.link(source, target)


def remove(path: Path) -> None:
    """Take a name away if it is there."""
    path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk itself, where the system can say so."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders, and writes their names down by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop(path: Path) -> None:
    """Remove a file on the way out of a failure, where a second failure would hide the first."""
    with contextlib.suppress(OSError):
        remove(path)
