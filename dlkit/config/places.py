"""Where each key of a config stands, so that every later stage can point at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlkit.errors import Problem

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Line and column count from 1; line 0 means that the source has no lines (an override, a mapping from Python)."""

    source: str
    line: int = 0
    column: int = 0


def dotted(path: Path) -> str:
    """A path as people write it: `data.transforms.0.name`."""
    return ".".join(map(str, path))


@dataclass(frozen=True)
class Places:
    """Places of keys and of values by path. A path that is not in the config is placed at its nearest parent."""

    keys: Mapping[Path, Place] = field(default_factory=dict)
    values: Mapping[Path, Place] = field(default_factory=dict)
    source: str = "config"

    def problem(self, path: Path, message: str, *, at: str = "key") -> Problem:
        """A problem with the key (`at="key"`) or with its value (`at="value"`)."""
        table = self.keys if at == "key" else self.values
        for length in range(len(path), 0, -1):
            if place := table.get(path[:length]):
                break
        else:
            place = Place(self.source)
        return Problem(place.source, place.line, place.column, dotted(path), message)
