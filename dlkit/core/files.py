"""Writing files so that a name is never seen half-written."""

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from dlkit.errors import OutOfResource, OutputError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
    return OutputError(f"{path}: cannot write: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write bytes, atomically."""

    def write(file: BinaryIO) -> None:
        file.write(data)

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; numbers that are not finite become null."""
    write_text(path, to_json(value, indent=2) + "\n")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text of plain values; NaN and infinities become null, as JSON has none."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
