"""Arrays of npz and npy files, by name: headers are checked before anything is read, and nothing is ever unpickled."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from dlkit.core.data.images import printable
from dlkit.core.devices import machine_memory
from dlkit.errors import DataError, first_line

GIB = 1 << 30
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_BROKEN = (OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class StoredArray:
    """An array that is not read yet: what messages call it, what opens its bytes, and how many there are, unpacked."""

    title: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    num_bytes: int


def find_arrays(path: Path) -> dict[str, StoredArray]:
    """Returns the arrays of an npz file, of one npy file, or of a folder of npy files, by name.

    Raises DataError where there are none.
    """
    if path.is_dir():
        found = {child.stem: _in_file(child) for child in sorted(path.glob("*.npy")) if child.is_file()}
    elif not path.is_file():
        raise DataError(f"{printable(path)}: no such file or folder")
    elif path.suffix.lower() == ".npy":
        found = {path.stem: _in_file(path)}
    else:
        found = _in_archive(path)
    if not found:
        raise DataError(f"{printable(path)} holds no arrays; an npz file, or a folder of npy files, is needed")
    return found


def _in_file(path: Path) -> StoredArray:
    return StoredArray(printable(path), lambda: path.open("rb"), path.stat().st_size)


def _in_archive(path: Path) -> dict[str, StoredArray]:
    with _explained(printable(path), "not an npz file"), zipfile.ZipFile(path) as archive:
        members = {
            info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")
        }
    return {
        name: StoredArray(f"{name} in {printable(path)}", partial(_open_member, path, info), info.file_size)
        for name, info in members.items()
    }


@contextmanager
def _open_member(path: Path, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open(info) as file:
        yield file


def read_arrays(stored: Mapping[str, StoredArray], names: Iterable[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the arrays of these names.

    Raises DataError, before any is read, for one that is broken or holds Python objects, and where all together would take more
    than half of the machine's memory.
    """
    chosen = {name: stored[name] for name in names}
    total = sum(map(_checked_size, chosen.values()))
    most = (machine_memory() or math.inf) / 2
    if total > most:
        raise DataError(
            f"{', '.join(array.title for array in chosen.values())}: {total / GIB:,.1f} GiB of numbers, where "
            f"{most / GIB:,.1f} GiB, half of this machine's memory, is the most"
        )
    return {name: _read(array) for name, array in chosen.items()}


def _checked_size(array: StoredArray) -> int:
    """Returns the bytes that an array takes, by its header. Raises DataError where the file does not hold these."""
    with _explained(array.title), array.open() as file:
        version = npy.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"its format {'.'.join(map(str, version))} is for tables of named columns")
        shape, _, dtype = _READERS[version](file)
        num_found = array.num_bytes - file.tell()
    if dtype.hasobject:
        raise DataError(
            f"{array.title}: refused, it holds Python objects, and reading these runs code; save numbers or texts instead, "
            "with a dtype such as float32, int64 or U20"
        )
    size = math.prod(shape) * dtype.itemsize
    if size != num_found:
        raise DataError(f"{array.title}: damaged, its header promises {size:,} bytes and {num_found:,} are there")
    return size


def _read(array: StoredArray) -> np.ndarray[Any, Any]:
    with _explained(array.title), array.open() as file:
        found: np.ndarray[Any, Any] = npy.read_array(file, allow_pickle=False)
    return found


@contextmanager
def _explained(title: str, words: str = "cannot be read") -> Iterator[None]:
    """Say of what a file holds that it cannot be read: its bytes come from anywhere and raise many kinds of error."""
    try:
        yield
    except _BROKEN as error:
        raise DataError(f"{title}: {words} ({first_line(error, 200) or type(error).__name__})") from None
