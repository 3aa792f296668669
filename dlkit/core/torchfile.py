"""Reading torch files without running code from them, and writing them atomically.

`weights_only=True` keeps pickles from naming code; the checks in front of it refuse archives that are not what
`torch.save` writes (compressed members, foreign members, sizes that do not add up) before torch sees a byte.
"""

import io
import os
import pickle
import stat
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from dlkit.core.plain_values import check_plain
from dlkit.core.sparse_storage import unpack_tensors
from dlkit.errors import DlkitError, FileRefused, first_line
from dlkit.files import write_bytes

MAX_PICKLE_BYTES = 3 * 2**20  # torch's own reader, which is in python, takes a second or two for each MiB
MAX_MEMBERS = 60_000
MOST_REASON = 2_000
CONVERT_HINT = (
    "convert it once, if you trust where it comes from: dlkit convert {path} NEW.pt --trust-pickle --arch NAME"
)


@contextmanager
def refused(path: str | Path, words: str = "") -> Iterator[None]:
    """Say of a file that what is done with its contents fails: they come from anywhere, so any error is the file's own fault.

    Errors of dlkit pass, and so does a lack of memory.
    """
    try:
        yield
    except (DlkitError, MemoryError):
        raise
    except Exception as error:
        # torch and dlkit say what is wrong; python's own errors only name a key or a type
        is_sentence = isinstance(error, ValueError | RuntimeError)
        reason = str(error)[:MOST_REASON] if is_sentence else f"{type(error).__name__}: {first_line(error, 200)}"
        raise FileRefused(path, f"{words}{reason}") from error


def read_torch_file(path: str | Path, *, allow_legacy: bool = False) -> Any:
    """The plain values and tensors (on the CPU) of a file that `torch.save` wrote.

    `allow_legacy` also reads the format from before torch 1.6, in which many published weights still come. Raises FileRefused
    for anything else: missing, truncated, TorchScript, an exported program, or a pickle that names code.
    """
    path = Path(path)
    check_file(path)
    if not (allow_legacy and _is_legacy(path)):
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about TypedStorage in old files
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise FileRefused(path, _pickle_reason(path)) from None
    except Exception as error:  # hostile bytes surface as many kinds of error
        raise FileRefused(path, f"cannot be read: {type(error).__name__}: {first_line(error, 200)}") from None
    num_bytes = path.stat().st_size
    with refused(path):
        check_plain(value, num_bytes=num_bytes)
    return _with_sparse_weights(path, value, num_bytes)


def _with_sparse_weights(path: Path, value: Any, num_bytes: int) -> Any:
    """A model file's value with the weights that it stores packed as dense ones, so that every reader finds them."""
    if not isinstance(value, dict) or not str(value.get("format")).startswith("dlkit.") or "sparse" not in value:
        return value
    rest = {key: item for key, item in value.items() if key != "sparse"}
    with refused(path, "its sparse weights cannot be read: "):
        return {**rest, "state_dict": unpack_tensors(value["state_dict"], value["sparse"], most_numbers=8 * num_bytes)}


def check_file(path: Path) -> None:
    """Raise FileRefused unless there is a file of bytes here: no folder, and no device or pipe, which may have no end."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # also a name that is too long, or that holds a zero
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = getattr(error, "strerror", None) or str(error)
        raise FileRefused(path, "no such file" if is_missing else f"cannot be opened: {reason}") from None
    if stat.S_ISDIR(status.st_mode):
        raise FileRefused(path, "this is a folder; a model or checkpoint file is needed")
    if not stat.S_ISREG(status.st_mode):
        raise FileRefused(path, "not a regular file; a model or checkpoint file is needed")
    if status.st_size == 0:
        raise FileRefused(path, "the file is empty")
    if not os.access(path, os.R_OK):
        raise FileRefused(path, "this file may not be read")


def _is_legacy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _check_archive(path: Path) -> None:
    try:
        if not zipfile.is_zipfile(path):
            raise FileRefused(path, _not_an_archive(path))
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
    except EOFError:
        raise FileRefused(path, "the archive is damaged: it ends too early") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileRefused(path, f"the archive is damaged: {first_line(error, 200)}") from None


def _not_an_archive(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(8)
    if head[:1] == b"\x80":
        return "an old-style pickle, which can run code when loaded; " + CONVERT_HINT.format(path=path)
    if head[:4] == b"PK\x03\x04":
        return "the file is truncated: it begins like a torch file but its end is missing"
    return "not a file that torch.save wrote"


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    plain_names = {name.partition("/")[2] for name in names}
    if "constants.pkl" in plain_names or any(name.startswith("code/") for name in plain_names):
        raise FileRefused(
            path, "a TorchScript file, which is code; save the weights instead: torch.save(model.state_dict(), ...)"
        )
    if any(name.endswith((".pt2", "archive_format")) for name in names):
        raise FileRefused(
            path, "an exported program (.pt2); dlkit reads model files and weights, give it the file that was exported"
        )
    if "data.pkl" not in plain_names:
        raise FileRefused(path, "not a file that torch.save wrote")
    sound = (
        len(names) == len(set(names)) <= MAX_MEMBERS
        and len({name.partition("/")[0] for name in names}) == 1
        and not any(".." in name.split("/") or name.startswith("/") for name in names)
        and all(member.compress_type == zipfile.ZIP_STORED for member in members)
        and sum(member.file_size for member in members) <= path.stat().st_size
    )
    if not sound:
        raise FileRefused(path, "the archive is not laid out as torch.save does it")
    if max(member.file_size for member in members if member.filename.endswith("data.pkl")) > MAX_PICKLE_BYTES:
        raise FileRefused(path, f"describes its tensors in more than {MAX_PICKLE_BYTES >> 20} MiB, and is not read")
    if damaged := archive.testzip():
        raise FileRefused(path, f"damaged: the checksum of {damaged.partition('/')[2]} is wrong")


def _pickle_reason(path: Path) -> str:
    try:
        named = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        named = []
    names = f" ({', '.join(named[:4])}{' ...' if len(named) > 4 else ''})" if named else ""
    return f"a pickled object{names}, which can run code when loaded; " + CONVERT_HINT.format(path=path)


def save_torch_file(path: Path, value: Any) -> None:
    """`torch.save` in one step: serialized in memory first, so that a full disk is reported as such."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_bytes(path, buffer.getbuffer())


def plain_mapping(path: str | Path, value: Any, *, wanted: str) -> dict[str, Any]:
    """The value as a dict, or FileRefused saying which kind of file was wanted."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FileRefused(path, f"not {wanted}: holds a {type(value).__name__}")
    return cast(dict[str, Any], value)
