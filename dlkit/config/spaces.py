"""Overrides with several values, which span what a sweep searches.

`optimizer.lr=log:1e-4..1e-1` and `train.clip=0.5..2.0:0.5` are ranges, of whole numbers where both ends are whole;
`model.width=16,32,64` lists values, each read as in a file. Everything else is an override as any other.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.config.document import parse_document
from dlkit.config.loading import LoadedConfig, load_config
from dlkit.config.nodes import SequenceNode, to_values, value_at
from dlkit.config.scalars import resolve_scalar
from dlkit.config.source_locations import Location, printable
from dlkit.errors import ConfigError, Problem

Number = int | float
_LOG, _TO = "log:", ".."
# two runs can only be compared by one metric of one task
_DECIDING = ("checkpoint.metric", "checkpoint.mode", "task", "name", "runtime.out")


@dataclass(frozen=True)
class KeySpace:
    """What one key is searched in: the values of a list, or a range, whose `values` are its ends."""

    key: str
    text: str
    values: tuple[Any, ...]
    is_range: bool = False
    is_log: bool = False
    step: Number | None = None

    @property
    def place(self) -> str:
        """What messages call it."""
        return f"space '{printable(self.text)}'"

    @property
    def is_whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return self.is_range and all(isinstance(value, int) for value in self.values)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        if (points := self.points) is not None:
            return json.dumps(value, default=str) in map(json.dumps, points)
        is_number = isinstance(value, int if self.is_whole else int | float) and not isinstance(value, bool)
        return is_number and self.values[0] <= value <= self.values[1]

    @property
    def points(self) -> tuple[Any, ...] | None:
        """All of its values, None for a range of real numbers without a step."""
        step = self.step or (1 if self.is_whole and not self.is_log else None)
        if not self.is_range or step is None:
            return None if self.is_range else self.values
        low, high = self.values
        count = int((high - low) / step + 1e-9) + 1
        return tuple(
            low + step * number if self.is_whole else round(low + step * number, 12) for number in range(count)
        )


_Chosen = tuple[KeySpace, Any]


@dataclass(frozen=True)
class SearchSpace:
    """A config with spaces over it. `base` has the first value of each, `own` the values of the config itself, by key, that lie in
    their spaces; `fixed` are the overrides that stay.
    """

    path: Path
    overlays: tuple[Path, ...]
    fixed: tuple[str, ...]
    spaces: tuple[KeySpace, ...]
    base: LoadedConfig
    own: Mapping[str, Any]

    def load(self, values: Mapping[str, Any], *more: str) -> LoadedConfig:
        """Load the config with one value for each key. Raises ConfigError, which names the space at fault."""
        return _load(
            self.path, self.overlays, [*self.fixed, *more], [(space, values[space.key]) for space in self.spaces]
        )


def load_spaces(path: Path, *, overlays: Sequence[Path] = (), texts: Sequence[str] = ()) -> SearchSpace:
    """Load a config and check every value of a list and both ends of a range, each with the first values of the other spaces.

    Raises ConfigError with all problems, each with its place in the file or in the argument.
    """
    problems: list[Problem] = []
    read = [_read(text, problems) for text in texts]
    spaces = tuple(item for item in read if isinstance(item, KeySpace))
    fixed = tuple(item for item in read if isinstance(item, str))
    problems += [*_find_mistakes(spaces, fixed), *(() if spaces or problems else [_NOTHING])]
    first = [(space, space.values[0]) for space in spaces]
    others = [(number, value) for number, space in enumerate(spaces) for value in space.values[1:]]
    tried = [first, *([*first[:number], (spaces[number], value), *first[number + 1 :]] for number, value in others)]
    loaded = [_try_loading(path, overlays, fixed, chosen, problems) for chosen in tried]
    if problems or loaded[0] is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    own = _try_loading(path, overlays, fixed, (), [])
    return SearchSpace(path, tuple(overlays), fixed, spaces, loaded[0], {} if own is None else _own_values(own, spaces))


_NOTHING = Problem(
    "arguments", 0, 0, "", "nothing to search; give a space such as optimizer.lr=log:1e-4..1e-1 or model.width=16,32,64"
)


def _own_values(loaded: LoadedConfig, spaces: Sequence[KeySpace]) -> dict[str, Any]:
    config = loaded.config.model_dump()
    found = {space.key: value_at(config, tuple(space.key.split("."))) for space in spaces}
    named = {
        key: value["name"] if isinstance(value, dict) and "name" in value else value for key, value in found.items()
    }
    return {space.key: named[space.key] for space in spaces if space.holds(named[space.key])}


def _try_loading(
    path: Path, overlays: Sequence[Path], fixed: Sequence[str], chosen: Sequence[_Chosen], problems: list[Problem]
) -> LoadedConfig | None:
    try:
        return _load(path, overlays, fixed, chosen)
    except ConfigError as error:
        problems.extend(error.problems)
        return None


def _load(path: Path, overlays: Sequence[Path], fixed: Sequence[str], chosen: Sequence[_Chosen]) -> LoadedConfig:
    searched = {f"{space.key}={json.dumps(value, ensure_ascii=False)}": space.place for space, value in chosen}
    return load_config(path, overlays=overlays, overrides=[*fixed, *searched], places=searched)


def _find_mistakes(spaces: Sequence[KeySpace], fixed: Sequence[str]) -> Iterator[Problem]:
    """Keys that no sweep can search, or that are given twice."""
    seen = {text.removeprefix("~").partition("=")[0]: f"override '{printable(text)}'" for text in fixed}
    for space in spaces:
        where = Location(space.place)
        if space.key in seen:
            yield where.problem(space.key, f"given twice; first in {seen[space.key]}")
        if space.key in _DECIDING:
            yield where.problem(
                space.key, "this cannot be searched: all trials are compared by the same metric, in one folder"
            )
        seen.setdefault(space.key, space.place)


def _read(text: str, problems: list[Problem]) -> KeySpace | str | None:
    """Returns the space that an argument spans, the argument itself if it sets one value, or None for a wrong space, which is told."""
    key, equals, written = text.partition("=")
    if text.startswith("~") or not equals:
        return text
    if written.startswith(_LOG) or (_TO in written and _number(written.partition(_TO)[0]) is not None):
        return _read_range(key.strip(), text, problems)
    return _read_list(key.strip(), text, written, problems)


def _read_list(key: str, text: str, written: str, problems: list[Problem]) -> KeySpace | str:
    found: list[Problem] = []
    listed = parse_document(f"[{written}]", Location(""), found)
    if found or not isinstance(listed, SequenceNode) or len(listed.items) < 2:
        return text
    space = KeySpace(key, text, tuple(map(to_values, listed.items)))
    shown = [json.dumps(value) for value in space.values]
    if twice := next((value for value in shown if shown.count(value) > 1), None):
        problems.append(Location(space.place).problem(key, f"{twice} stands twice in the list"))
    return space


def _read_range(key: str, text: str, problems: list[Problem]) -> KeySpace | None:
    written = text.partition("=")[2]
    ends, colon, step_text = written.removeprefix(_LOG).partition(":")
    low, high = (_number(end) for end in (ends.partition(_TO)[0], ends.partition(_TO)[2]))
    step, is_log = _number(step_text), written.startswith(_LOG)
    where = Location(f"space '{printable(text)}'")
    if low is None or high is None or (colon and step is None):
        problems.append(where.problem(key, "expected a range such as 0.0..1.0, 16..64:16 or log:1e-4..1e-1"))
        return None
    if wrong := _range_mistake(low, high, step, is_log=is_log):
        problems.append(where.problem(key, wrong))
        return None
    if not (isinstance(low, int) and isinstance(high, int)) or isinstance(step, float):
        low, high, step = float(low), float(high), None if step is None else float(step)
    return KeySpace(key, text, (low, high), is_range=True, is_log=is_log, step=step)


def _range_mistake(low: Number, high: Number, step: Number | None, *, is_log: bool) -> str | None:
    if low >= high:
        return f"an empty range: {low:g} is not below {high:g}"
    if is_log and low <= 0:
        return f"a logarithmic range begins above 0, not at {low:g}"
    if is_log and step is not None:
        return "a logarithmic range has no step"
    if step is not None and not 0 < step <= high - low:
        return f"expected a step above 0 and at most {high - low:g}, got {step:g}"
    return None


def _number(text: str) -> Number | None:
    try:
        value = resolve_scalar(text.strip())
    except ValueError:
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
