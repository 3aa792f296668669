"""Sizes of files, against gzip itself."""

import gzip

import pytest

from dlkit.core.evaluation import CHUNK_BYTES, file_sizes
from dlkit.errors import FileRefused


@pytest.mark.parametrize("data", [b"", b"dlkit" * 1000, bytes(CHUNK_BYTES + 7), bytes(range(256)) * 9000])
def test_sizes_are_those_of_gzip(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    sizes = file_sizes(path)
    assert sizes.bytes == len(data)
    assert sizes.gzip_bytes == pytest.approx(len(gzip.compress(data, compresslevel=6)), abs=16)


def test_zeros_shrink_only_when_compressed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(10**6))
    assert file_sizes(path).bytes == 10**6 and file_sizes(path).gzip_bytes < 2000


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(FileRefused, match="cannot be read"):
        file_sizes(tmp_path / name)
