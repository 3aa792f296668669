"""A config before it is checked: a tree of plain values, each with the location where it was written."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from dlkit.config.scalars import Plain
from dlkit.config.source_locations import KeyPath, Location, Locations, dotted
from dlkit.errors import Problem

MOST_DEPTH = 32
MISSING = object()
_PYTHON = Location("config")


@dataclass(frozen=True)
class ScalarNode:
    """A string, number, truth value or null."""

    value: Plain
    location: Location


@dataclass(frozen=True)
class SequenceNode:
    """A list."""

    items: tuple["Node", ...]
    location: Location


@dataclass(frozen=True)
class Child:
    """A value in a mapping, and the location of its key."""

    key_location: Location
    node: "Node"


@dataclass(frozen=True)
class MappingNode:
    """A mapping; its order is the order of the file."""

    children: Mapping[str, Child]
    location: Location


Node = ScalarNode | SequenceNode | MappingNode


def to_values(node: Node) -> Any:
    """The plain values without their locations."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, SequenceNode):
        return [to_values(item) for item in node.items]
    return {key: to_values(child.node) for key, child in node.children.items()}


def value_at(values: Any, path: KeyPath, *, default: Any = None) -> Any:
    """The value at a path of plain values, or the default if there is none."""
    for part in path:
        if isinstance(values, dict):
            values = values.get(part, MISSING)
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return default
        if values is MISSING:
            return default
    return values


def to_locations(root: Node) -> Locations:
    """The locations of all keys and values. An item of a list is its own key."""
    keys: dict[KeyPath, Location] = {}
    values: dict[KeyPath, Location] = {}
    for path, key_location, node in _walk((), root.location, root):
        keys[path], values[path] = key_location, node.location
    return Locations(keys, values, root.location.source)


def _walk(path: KeyPath, key_location: Location, node: Node) -> Iterator[tuple[KeyPath, Location, Node]]:
    yield path, key_location, node
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.items):
            yield from _walk((*path, index), item.location, item)
    if isinstance(node, MappingNode):
        for key, child in node.children.items():
            yield from _walk((*path, key), child.key_location, child.node)


def from_mapping(values: Mapping[str, Any], problems: list[Problem]) -> MappingNode:
    """The tree of a mapping from Python. What no config file could hold is added to `problems` and becomes null."""
    node = _from_value(values, (), problems)
    if isinstance(node, MappingNode):
        return node
    problems.append(_PYTHON.problem("", f"expected a mapping of sections, got {type(values).__name__}"))
    return MappingNode({}, _PYTHON)


def _from_value(value: Any, path: KeyPath, problems: list[Problem]) -> Node:
    if len(path) > MOST_DEPTH:
        problems.append(_PYTHON.problem(dotted(path[:3]), f"nested deeper than {MOST_DEPTH} levels"))
        return ScalarNode(None, _PYTHON)
    if isinstance(value, Mapping):
        children = {
            key: Child(_PYTHON, _from_value(item, (*path, key), problems))
            for key, item in value.items()
            if _is_key(key, path, problems)
        }
        return MappingNode(children, _PYTHON)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        items = (_from_value(item, (*path, index), problems) for index, item in enumerate(value))
        return SequenceNode(tuple(items), _PYTHON)
    if isinstance(value, PathLike):
        value = fspath(value)
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return ScalarNode(value, _PYTHON)
    wrong = f"expected a plain value, got {type(value).__name__}"
    if isinstance(value, float):
        wrong = f"{value} is not allowed; numbers must be finite"
    problems.append(_PYTHON.problem(dotted(path), wrong))
    return ScalarNode(None, _PYTHON)


def _is_key(key: object, path: KeyPath, problems: list[Problem]) -> bool:
    if isinstance(key, str) and key:
        return True
    problems.append(_PYTHON.problem(dotted(path), f"a key must be a string, got {key!r}"))
    return False
