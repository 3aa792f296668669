"""What a file takes on disk, and what it takes once compressed: masked weights are zeros that only gzip sees."""

import zlib
from dataclasses import dataclass
from pathlib import Path

from dlkit.errors import FileRefused

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class FileSizes:
    """Bytes as stored, and after gzip at its default level."""

    bytes: int
    gzip_bytes: int


def file_sizes(path: str | Path) -> FileSizes:
    """Returns both sizes of a file, read in pieces. Raises FileRefused when it cannot be read."""
    compressor = zlib.compressobj(wbits=31)  # 31 is gzip's container
    stored = compressed = 0
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                stored += len(chunk)
                compressed += len(compressor.compress(chunk))
    except OSError as error:
        raise FileRefused(path, f"cannot be read: {error.strerror or error}") from None
    return FileSizes(stored, compressed + len(compressor.flush()))
