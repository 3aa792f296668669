"""Pixels of image files, or classes of masks, decoded once into one file that is mapped into memory: later epochs and runs read these.

The file holds the pixels one picture after another, then what says where each lies and which state of its file it was decoded from, then
the length of that. A file that was changed since is decoded anew.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.core.data.images import Mode, load_image, printable
from dlkit.core.data.scan import run_on_all
from dlkit.errors import OutOfResource, OutputError
from dlkit.events import Emit, Note, Throttle, Working
from dlkit.files import worded, write_chunks
from dlkit.quantities import bytes_text, counted

MAGIC = b"dlkit pixels 1\n"
_AT_ONCE = 256  # files, between two looks at the clock
_TAIL = 8  # bytes of the length of what says where pictures lie

State = tuple[int, int]  # size and time of change of a file


@dataclass(frozen=True)
class Decoding:
    """How files become pixels, uint8 (C, H, W), and in words which way that is; `noun` is what the files are."""

    read: Callable[[str], Tensor]
    way: str
    noun: str = "picture"


def decoding_of(mode: Mode) -> Decoding:
    """Returns that of pictures."""
    return Decoding(partial(load_image, mode=mode), mode)


@dataclass(frozen=True)
class DecodedFiles:
    """The pictures in one file of pixels: where each begins, its size (C, H, W), and the state of the file that it was decoded from."""

    path: Path
    places: Mapping[str, tuple[int, tuple[int, int, int], State]]

    def __reduce__(self) -> tuple[Any, ...]:
        return DecodedFiles, (self.path, self.places)  # loader processes map the file themselves

    @cached_property
    def _bytes(self) -> Any:
        return np.memmap(self.path, dtype=np.uint8, mode="r")

    def read(self, path: str) -> Tensor:
        """Returns the pixels of a picture, uint8 (C, H, W)."""
        start, shape, _ = self.places[path]
        pixels = self._bytes[start : start + math.prod(shape)]
        return torch.from_numpy(np.array(pixels)).view(shape)

    def size_of(self, path: str) -> tuple[int, int]:
        """Returns the height and width of a picture."""
        return self.places[path][1][1:]

    def holds(self, path: str, state: State) -> bool:
        """Whether the picture is there as its file is now."""
        return path in self.places and self.places[path][2] == state


def decode_once(
    paths: Sequence[str], decoding: Decoding, folder: Path, *, limit_s: float | None, emit: Emit
) -> DecodedFiles:
    """Returns the pictures decoded, from the file of pixels in a folder; those that it has not, or not as they are now, are put into it.

    Raises DataError for pictures that cannot be read, OutOfResource where the disk has no room, OutputError where the folder
    cannot be written.
    """
    states = {path: _state(path) for path in paths}
    store = folder / f"{_key(paths, decoding)}.pixels"
    kept = _open(store)
    missing = {path: state for path, state in states.items() if kept is None or not kept.holds(path, state)}
    if kept is not None and not missing:
        emit(Note(f"decoded {decoding.noun}s are read from {store} ({bytes_text(store.stat().st_size)})"))
        return kept
    _make_folder(folder)
    _check_room(store, list(missing), decoding, emit)
    old = {} if kept is None else {path: place[2] for path, place in kept.places.items() if path not in missing}
    writer = _PixelWriter(kept, old, missing, decoding, limit_s, emit)
    write_chunks(store, writer.chunks())
    found = _open(store)
    assert found is not None
    return found


def cache_folder() -> Path:
    """Returns where files of pixels are kept unless `data.cache_dir` says it: as the XDG rules have it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dlkit" / "decoded"


@dataclass
class _PixelWriter:
    """What goes into a file of pixels, piece by piece."""

    kept: DecodedFiles | None
    old: Mapping[str, State]
    missing: Mapping[str, State]
    decoding: Decoding
    limit_s: float | None
    emit: Emit

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the pixels of all pictures, then the index."""
        places: dict[str, tuple[int, Sequence[int], State]] = {}
        states, start = {**self.old, **self.missing}, len(MAGIC)
        yield MAGIC
        for path, pixels in self._pictures():
            places[path] = start, tuple(pixels.shape), states[path]
            start += pixels.numel()
            yield pixels.contiguous().numpy().tobytes()
        index = json.dumps([[os.fsencode(path).hex(), *place] for path, place in places.items()]).encode()
        yield index
        yield len(index).to_bytes(_TAIL, "little")

    def _pictures(self) -> Iterator[tuple[str, Tensor]]:
        throttle, missing = Throttle(), list(self.missing)
        for path in self.old:
            assert self.kept is not None
            yield path, self.kept.read(path)
        for start in range(0, len(missing), _AT_ONCE):
            some = missing[start : start + _AT_ONCE]
            if throttle.is_due():
                self.emit(Working(f"decoding {self.decoding.noun}s", start, len(missing)))
            decoded = run_on_all(self.decoding.read, some, name_of=printable, limit_s=self.limit_s)
            yield from zip(some, decoded, strict=True)


def _key(paths: Sequence[str], decoding: Decoding) -> str:
    """Of the folder that all files are in, so that what is decoded for some of them serves a run with others."""
    root = os.path.commonpath([Path(path).absolute().parent for path in paths])
    return hashlib.sha256(os.fsencode(f"{root}\n{decoding.way}")).hexdigest()[:16]


def _state(path: str) -> State:
    """Size and time of change; zeros for a file that is not there, which decoding it will say."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _open(store: Path) -> DecodedFiles | None:
    """The pictures in a file of pixels; None where there is none, or it is another file."""
    try:
        with store.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return None
            end = file.seek(-_TAIL, os.SEEK_END)
            length = int.from_bytes(file.read(_TAIL), "little")
            file.seek(end - length)
            rows = json.loads(file.read(length))
        places = {
            os.fsdecode(bytes.fromhex(name)): (start, tuple(shape), tuple(state)) for name, start, shape, state in rows
        }
        is_whole = all(start > 0 and start + math.prod(shape) <= end - length for start, shape, _ in places.values())
    except (OSError, ValueError, TypeError):
        return None
    return DecodedFiles(store, places) if is_whole else None


def _make_folder(folder: Path) -> None:
    with worded(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot write here; name another folder with data.cache_dir")


def _check_room(store: Path, missing: Sequence[str], decoding: Decoding, emit: Emit) -> None:
    """Tell the size that is coming, by the first picture, and raise OutOfResource where the disk has not so much."""
    there = store.stat().st_size if store.exists() else 0
    needed = there + len(missing) * decoding.read(missing[0]).numel()
    free = shutil.disk_usage(store.parent).free
    what = f"{counted(len(missing), decoding.noun)} decoded into {store}, about {bytes_text(needed)}"
    if needed > free:
        raise OutOfResource(
            f"{what}, and {bytes_text(free)} are free there; name another folder with data.cache_dir, or set data.cache: none"
        )
    emit(Note(f"{what}, once; later epochs and runs read them there"))
