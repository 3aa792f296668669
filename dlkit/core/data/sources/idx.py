"""The idx format of the MNIST family: big-endian sizes, then bytes; gzipped or not."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from dlkit.errors import DataError

_UNSIGNED_BYTES = 0x08


def read_idx(path: Path) -> Tensor:
    """The array in an idx file of bytes: uint8. Raises DataError for a file that is broken or of another kind."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from None
    num_dims = content[3] if len(content) >= 4 else 0
    header = 4 + 4 * num_dims
    if content[:3] != bytes([0, 0, _UNSIGNED_BYTES]) or not num_dims or len(content) < header:
        raise DataError(f"{path}: not an idx file of bytes")
    shape = [int.from_bytes(content[4 + 4 * dim : 8 + 4 * dim]) for dim in range(num_dims)]
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path}: holds {len(content) - header} bytes where its header promises {math.prod(shape)}; "
            "fetch the file again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)
