"""Where each key of a config stands, so that every later stage can point at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlkit.errors import Problem

KeyPath = tuple[str | int, ...]
_LONGEST_KEY = 60


@dataclass(frozen=True)
class Place:
    """Line and column count from 1; line 0 means that the source has no lines (an override, a mapping from Python)."""

    source: str
    line: int = 0
    column: int = 0

    def problem(self, key: str, message: str) -> Problem:
        """A problem here with the dotted key, or with none where `key` is empty."""
        return Problem(self.source, self.line, self.column, key, message)


def dotted(path: KeyPath) -> str:
    """A path as people write it: `data.transforms.0.name`."""
    return ".".join(printable(str(part)) for part in path)


def printable(text: str) -> str:
    """The text, cut when very long, and escaped when it holds control characters that could upset a terminal."""
    if len(text) > _LONGEST_KEY:
        text = text[: _LONGEST_KEY - 3] + "..."
    return text if text.isprintable() else repr(text)


@dataclass(frozen=True)
class Places:
    """Places of keys and of values by path. A path that is not in the config is placed at its nearest parent."""

    keys: Mapping[KeyPath, Place] = field(default_factory=dict)
    values: Mapping[KeyPath, Place] = field(default_factory=dict)
    source: str = "config"

    def problem(self, path: KeyPath, message: str, *, at: str = "key") -> Problem:
        """A problem with the key (`at="key"`) or with its value (`at="value"`)."""
        return self.find(path, at=at).problem(dotted(path), message)

    def find(self, path: KeyPath, *, at: str = "key") -> Place:
        """Where a key or a value stands; the empty path is the top of the file."""
        table = self.keys if at == "key" else self.values
        for length in range(len(path), -1, -1):
            if place := table.get(path[:length]):
                return place
        return Place(self.source)
