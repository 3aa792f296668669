"""Files to write: whether they may be, checked before any work is done, and a name that is never seen half-written."""

import errno
import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dlkit.errors import OutOfResource, OutputError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PICTURES = (".png", ".svg", ".pdf")
WAY_OUT = "give another name with -o, or --force"


def check_ending(path: Path, endings: Sequence[str], rule: str = "the file name must end in") -> None:
    """Raise UsageError for a file name with none of these endings."""
    if path.suffix.lower() not in endings:
        raise UsageError(f"{path}: {rule} {', '.join(endings)}")


def check_output(path: Path, *, may_replace: bool, advice: str = WAY_OUT, may_be_folder: bool = False) -> None:
    """Raise OutputError for a file that could not be written after the work, or is there and must not be replaced."""
    _check_folder(path.parent, f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir() and not may_be_folder:
        raise OutputError(f"{path} is a folder; give the name of a file")
    if path.exists() and not may_replace:
        raise OutputError(f"{path} is there already; {advice}")


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


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Call `write` with an open file and put the result at `path` in one step, through a temporary file in the same folder.

    The file and its folder are synced, so that after a power failure the old or the new file is there, whole.
    Raises OutOfResource when the disk is full and OutputError when the folder cannot be written to; the old file stays.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".tmp-{path.name}-", delete=False) as file:
            temporary = Path(file.name)
            write(cast(BinaryIO, file))
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _disk_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    # the mask can only be read by setting it
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_error(path: Path, error: OSError) -> OutOfResource | OutputError:
    if error.errno in FULL:
        return OutOfResource(
            f"{path}: {error.strerror}. Free some space and start again; what was saved before is intact"
        )
    return OutputError(f"{path} cannot be written: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write bytes, atomically."""

    def write(file: BinaryIO) -> None:
        file.write(data)

    write_atomically(path, write)


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
