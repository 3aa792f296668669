"""A file of metrics that only grows, and that a checkpoint vouches for by its size and checksum."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from dlkit import disk
from dlkit.files import disk_error


class MetricsFile:
    """Appends text. A run that goes on from further back than the file reaches loses no line before something newer is saved: new
    lines go into a copy, NAME.next, of what the checkpoint knows, and the copy takes the file's place after the next checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = path.with_name(f"{path.name}.next")
        self._file: BinaryIO | None = None
        self._is_aside = False
        self._size = 0
        self._checksum = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet."""
        return self._size == 0

    def go_back(self, mark: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint noted, in whichever of the two files has it; a shorter file is taken as it is.

        Raises OutOfResource or OutputError, as all that writes.
        """
        try:
            if not self._begins_with(self.path, mark) and self._begins_with(self._next, mark):
                self._take_over()  # the process ended between the checkpoint and this step
            content = self.path.read_bytes()[: mark.get("size", 0)] if self.path.exists() else b""
        except OSError as error:
            raise disk_error(self.path, error) from error
        self._size, self._checksum = len(content), zlib.crc32(content)

    @staticmethod
    def _begins_with(path: Path, mark: Mapping[str, Any]) -> bool:
        content = path.read_bytes()[: mark.get("size", 0)] if path.exists() else b""
        return bool(zlib.crc32(content) == mark.get("crc32", 0))

    def append(self, text: str) -> None:
        """Write lines at the end."""
        data = text.encode()
        try:
            disk.write(self._file or self._open(), data)
        except OSError as error:
            raise disk_error(self.path, error) from error
        self._size, self._checksum = self._size + len(data), zlib.crc32(data, self._checksum)

    @property
    def _has_more(self) -> bool:
        """Whether the file holds lines that the checkpoint does not know."""
        return self.path.exists() and self.path.stat().st_size > self._size

    def _open(self) -> BinaryIO:
        disk.remove(self._next)  # of an attempt that saved nothing
        self._is_aside = self._has_more
        self._file = disk.create(self._next) if self._is_aside else disk.append(self.path)
        if self._is_aside:
            disk.write(self._file, self.path.read_bytes()[: self._size])
        disk.sync_folder(self.path.parent)
        return self._file

    def mark(self) -> dict[str, int]:
        """What a checkpoint notes, of bytes that are on the disk itself."""
        if self._file is not None:
            try:
                disk.sync(self._file)
            except OSError as error:
                raise disk_error(self.path, error) from error
        return {"size": self._size, "crc32": self._checksum}

    def settle(self) -> None:
        """Let go of the lines from before: a checkpoint that knows the new ones is on the disk."""
        try:
            if self._file is None and self._has_more:
                self._open()
            if self._is_aside:
                self._take_over()
        except OSError as error:
            raise disk_error(self.path, error) from error

    def _take_over(self) -> None:
        disk.replace(self._next, self.path)
        disk.sync_folder(self.path.parent)
        self._is_aside = False

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
