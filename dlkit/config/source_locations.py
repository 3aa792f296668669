"""Where each key and value of a config was written, so that every later check can point at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlkit.errors import Problem

KeyPath = tuple[str | int, ...]
_LONGEST_KEY = 60


@dataclass(frozen=True)
class Location:
    """Line and column count from 1; line 0 means that the source has no lines (an override, a mapping from Python)."""

    source: str
    line: int = 0
    column: int = 0

    def problem(self, key: str, message: str) -> Problem:
        """Returns a problem at this location; an empty `key` means the whole source."""
        return Problem(self.source, self.line, self.column, key, message)


@dataclass(frozen=True)
class Locations:
    """The locations of keys and of values, by path. A path that is not in the config has that of its nearest parent."""

    keys: Mapping[KeyPath, Location] = field(default_factory=dict)
    values: Mapping[KeyPath, Location] = field(default_factory=dict)
    source: str = "config"

    def problem(self, path: KeyPath, message: str, *, at: str = "key") -> Problem:
        """Returns a problem at the key (`at="key"`) or at its value (`at="value"`)."""
        return self.find(path, at=at).problem(dotted(path), message)

    def find(self, path: KeyPath, *, at: str = "key") -> Location:
        """The location of a key or a value; the empty path is the top of the file."""
        table = self.keys if at == "key" else self.values
        for length in range(len(path), -1, -1):
            if location := table.get(path[:length]):
                return location
        return Location(self.source)


def dotted(path: KeyPath) -> str:
    """A path as people write it: `data.transforms.0.name`."""
    return ".".join(printable(str(part)) for part in path)


def printable(text: str) -> str:
    """The text, shortened if it is very long, and escaped if control characters in it could upset a terminal."""
    if len(text) > _LONGEST_KEY:
        text = text[: _LONGEST_KEY - 3] + "..."
    return text if text.isprintable() else repr(text)
