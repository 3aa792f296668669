"""Options of one layer in a `layers:` list, read and checked by name."""

from dataclasses import dataclass, field
from typing import Any

from dlkit.suggestions import did_you_mean

Shape = tuple[int, ...]
_LARGEST = 2**31 - 1


class LayerError(Exception):
    """What is wrong with one layer; `option` is the key at fault inside it, if one is."""

    def __init__(self, message: str, *, option: str | None = None) -> None:
        self.option = option
        super().__init__(message)


@dataclass
class LayerOptions:
    """Options of one layer as written. `take` reads one by its short or its torch name; `finish` refuses what was not
    read.
    """

    written: dict[str, Any]
    num_classes: int
    known: list[str] = field(default_factory=list)

    def take(self, name: str, default: Any = None, *, also: str = "", required: bool = False) -> Any:
        """Returns the value of an option, by either name."""
        self.known += [spelling for spelling in (name, also) if spelling]
        if name in self.written and also in self.written:
            raise LayerError(f"{name} and {also} are the same option", option=also)
        found = next((spelling for spelling in (name, also) if spelling in self.written), None)
        if found is not None:
            return self.written.pop(found)
        if required:
            raise LayerError(f"needs {name!r}")
        return default

    def take_count(self, name: str, default: int | None = None, *, also: str = "", required: bool = False) -> Any:
        """Returns a whole number above 0, or the default."""
        value = self.take(name, default, also=also, required=required)
        if value is not default and not is_count(value):
            raise LayerError(f"{name} must be a whole number above 0, got {value!r}", option=name)
        return value

    def take_outputs(self, *, also: str) -> int:
        """Returns how many outputs a layer has; auto is the number of classes."""
        out = self.take("out", also=also, required=True)
        if out == "auto":
            return self.num_classes
        if not is_count(out):
            raise LayerError(f"out must be a whole number above 0 or auto, got {out!r}", option="out")
        return int(out)

    def take_sizes(
        self, name: str, default: Any, dims: int, *, also: str = "", required: bool = False, least: int = 1
    ) -> Any:
        """Returns one whole number per dimension, from one number or a list; a default of None stays None."""
        value = self.take(name, default, also=also, required=required)
        if value is None or value == "same":
            return value
        sizes = tuple(value) if isinstance(value, list | tuple) else (value,) * dims
        if len(sizes) != dims or not all(type(size) is int and least <= size <= _LARGEST for size in sizes):
            raise LayerError(
                f"{name} must be a whole number from {least}, or a list of {dims}, got {value!r}", option=name
            )
        return sizes

    def take_rest(self, *names: str) -> dict[str, Any]:
        """Returns those of torch's own options that were given."""
        self.known += names
        return {name: self.written.pop(name) for name in names if name in self.written}

    def finish(self) -> None:
        """Raise LayerError for options that the kind does not take."""
        for name in self.written:
            takes = ", ".join(self.known) or "none"
            raise LayerError(f"unknown option {name!r}.{did_you_mean(name, self.known)} It takes: {takes}", option=name)


def is_count(value: object) -> bool:
    """Returns whether a value is a whole number above 0."""
    return type(value) is int and 0 < value <= _LARGEST
