"""Reading torch files without running code from them, and writing them atomically.

`weights_only=True` keeps pickles from naming code; the checks in front of it refuse archives that are not what
`torch.save` writes (compressed members, foreign members, sizes that do not add up) before torch sees a byte.
"""

import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dlkit.core.sparse_storage import unpack_tensors
from dlkit.errors import FileRefused, first_line
from dlkit.files import write_bytes

MAX_PICKLE_BYTES = 64 * 2**20
MAX_MEMBERS = 200_000
CONVERT_HINT = (
    "convert it once, if you trust where it comes from: dlkit convert {path} NEW.pt --trust-pickle --arch NAME"
)


def read_torch_file(path: str | Path, *, allow_legacy: bool = False) -> Any:
    """The plain values and tensors (on the CPU) of a file that `torch.save` wrote.

    `allow_legacy` also reads the format from before torch 1.6, in which many published weights still come. Raises FileRefused
    for anything else: missing, truncated, TorchScript, an exported program, or a pickle that names code.
    """
    path = Path(path)
    _check_there(path)
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
    _check_plain(path, value)
    return _with_sparse_weights(path, value)


def _with_sparse_weights(path: Path, value: Any) -> Any:
    """A model file's value with the weights that it stores packed as dense ones, so that every reader finds them."""
    if not isinstance(value, dict) or not str(value.get("format")).startswith("dlkit.") or "sparse" not in value:
        return value
    rest = {key: item for key, item in value.items() if key != "sparse"}
    try:
        return {**rest, "state_dict": unpack_tensors(value["state_dict"], value["sparse"])}
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise FileRefused(path, f"its sparse weights cannot be read: {first_line(error, 200)}") from None


def _check_there(path: Path) -> None:
    if not path.exists():
        raise FileRefused(path, "no such file")
    if path.is_dir():
        raise FileRefused(path, "this is a folder; a model or checkpoint file is needed")
    if path.stat().st_size == 0:
        raise FileRefused(path, "the file is empty")


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
        and all(member.file_size <= MAX_PICKLE_BYTES for member in members if member.filename.endswith("data.pkl"))
    )
    if not sound:
        raise FileRefused(path, "the archive is not laid out as torch.save does it")
    if damaged := archive.testzip():
        raise FileRefused(path, f"damaged: the checksum of {damaged.partition('/')[2]} is wrong")


def _pickle_reason(path: Path) -> str:
    try:
        named = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        named = []
    names = f" ({', '.join(named[:4])}{' ...' if len(named) > 4 else ''})" if named else ""
    return f"a pickled object{names}, which can run code when loaded; " + CONVERT_HINT.format(path=path)


def _check_plain(path: Path, value: Any) -> None:
    """Only containers, scalars and dense tensors whose elements are all there."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set):
            pending.extend(item)
        elif isinstance(item, Tensor):
            _check_tensor(path, item)
        elif item is not None and not isinstance(item, str | int | float | bool | torch.Size | torch.dtype):
            raise FileRefused(path, f"holds a {type(item).__name__}; only tensors and plain values are read")


def _check_tensor(path: Path, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided or tensor.is_meta:
        raise FileRefused(
            path, f"holds a tensor of layout {tensor.layout} on {tensor.device}; only dense tensors are read"
        )
    # a stride of 0 would let a few bytes claim to be a huge tensor
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise FileRefused(path, "holds a tensor that is larger than the bytes stored for it")


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
