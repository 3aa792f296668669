"""Files to write: whether they may be, checked before any work is done, and a name that is never seen half-written."""

import errno
import io
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit import disk
from dlkit.errors import OutOfResource, OutputError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FAILING = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE}
PICTURES = (".png", ".svg", ".pdf")
COPIED_AT_ONCE = 2**24  # bytes


def check_ending(path: Path, endings: Sequence[str], rule: str = "the file name must end in") -> None:
    """Raise UsageError for a file name with none of these endings."""
    if path.suffix.lower() not in endings:
        raise UsageError(f"{path}: {rule} {', '.join(endings)}")


def check_output(path: Path, *, may_replace: bool, may_be_folder: bool = False) -> None:
    """Raise OutputError for a file that could not be written after the work, or is there and must not be replaced.

    Every command asks before it works, and replaces with --force alone.
    """
    with worded(path):
        _check_folder(path.parent, f"{path} cannot be written: there is no folder {path.parent}")
        if path.is_dir() and not may_be_folder:
            raise OutputError(f"{path} is a folder; give the name of a file")
        check_own(path)
        if path.exists() and not may_replace:
            raise OutputError(f"{path} is there already; give another name, or --force")


def check_own(path: Path) -> None:
    """Raise OutputError for what is there and is no file of its own: a link stands for a file elsewhere."""
    if path.is_symlink():
        raise OutputError(f"{path} is a link, to {path.readlink()}; give the name of the file itself")
    check_replaceable(path)


def check_replaceable(path: Path) -> None:
    """Raise OutputError for what is there and no file: a device or a pipe would be gone when a file takes its name."""
    kind = path.lstat().st_mode if os.path.lexists(path) else stat.S_IFREG
    if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind) or stat.S_ISDIR(kind)):
        raise OutputError(f"{path} is a device or a pipe, which a file would replace; give the name of a file")


def check_outputs(paths: Sequence[Path], original: Path, original_is: str, *, may_replace: bool) -> None:
    """Check files that go into one folder; `original`, what they are made from, is never replaced."""
    _check_folder(paths[0].parent, f"{paths[0].parent}: no such folder")
    for path in paths:
        if path.exists() and original.exists() and path.samefile(original):
            raise OutputError(f"{path} is {original_is}; give another name with -o")
        check_output(path, may_replace=may_replace)


def _check_folder(folder: Path, words_if_missing: str) -> None:
    if not folder.is_dir():
        raise OutputError(words_if_missing)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot write here; give another place")


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write bytes in one step: after a crash or a power failure the old or the new file is there, whole.

    Raises OutOfResource when the disk is full or fails, and OutputError when the file cannot be written; the old file stays.
    """
    write_chunks(path, [data])


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """As `write_bytes`, of bytes that come piece by piece."""

    def fill(temporary: Path) -> None:
        with disk.create(temporary) as file:
            for chunk in chunks:
                disk.write(file, chunk)
            disk.sync(file)

    _put(path, fill)


def link_file(source: Path, target: Path) -> None:
    """Put the same bytes under a second name, in one step. Files are only ever replaced, so sharing them is safe."""

    def fill(temporary: Path) -> None:
        try:
            disk.link(source, temporary)
        except OSError:  # a file system without links, or another one
            _copy(source, temporary)

    if not (target.exists() and source.samefile(target)):
        _put(target, fill)


def copy_file(source: Path, target: Path) -> None:
    """Write the bytes of a file a second time, in one step, so that damage to one leaves the other."""
    _put(target, lambda temporary: _copy(source, temporary))


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, disk.create(target) as file:
        while chunk := read.read(COPIED_AT_ONCE):
            disk.write(file, chunk)
        disk.sync(file)


def _put(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a file under another name in the same folder, and give it its own when it is whole."""
    check_replaceable(path)
    temporary = path.with_name(f".tmp-{path.name[:40]}-{os.urandom(4).hex()}")
    try:
        with worded(path):
            fill(temporary)
            disk.replace(temporary, path)
            disk.sync_folder(path.parent)
    finally:
        disk.drop(temporary)


@contextmanager
def worded(path: Path) -> Iterator[None]:
    """Turn what the system says of a file or folder that is written into `disk_error`."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error
    except ValueError as error:  # a zero in a name, or half of a pair of characters
        raise OutputError(f"{path} cannot be written: {error}") from error


def disk_error(path: Path, error: OSError) -> OutOfResource | OutputError:
    """What to raise for a file that cannot be written: the words name the file."""
    if error.errno in FULL:
        return OutOfResource(
            f"{path}: {error.strerror}. Free some space and start again; what was saved before is intact"
        )
    if error.errno in FAILING:
        return OutOfResource(f"{path}: {error.strerror}; the disk fails. What was saved before is intact")
    return OutputError(f"{path} cannot be written: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically. What is none, as in names of files that are not UTF-8, is written as an escape."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def save_figure(path: Path, figure: "Figure", *, dpi: int = 150) -> None:
    """Write a matplotlib figure, atomically, in the format that the ending of `path` names."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.removeprefix(".").lower(), dpi=dpi)
    write_bytes(path, buffer.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; numbers that are not finite become null."""
    write_text(path, to_json(value, indent=2) + "\n")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text of plain values; NaN and infinities become null, as JSON has none."""
    return json.dumps(without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)


def without_nan(value: Any) -> Any:
    """The value with null where JSON has no number."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value
