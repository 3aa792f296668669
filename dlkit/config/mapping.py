"""A mapping from Python as a tree, so that it goes through the same checks as a file."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from dlkit.config.document import MOST_DEPTH
from dlkit.config.places import KeyPath, Place, dotted
from dlkit.config.tree import Child, Items, Keys, Node, Scalar
from dlkit.errors import Problem

_PLACE = Place("config")


def tree_of_mapping(values: Mapping[str, Any], problems: list[Problem]) -> Keys:
    """The tree of plain values; what no config file could hold is added to `problems` and becomes null."""
    node = _node(values, (), problems)
    if isinstance(node, Keys):
        return node
    problems.append(_PLACE.problem("", f"expected a mapping of sections, got {type(values).__name__}"))
    return Keys({}, _PLACE)


def _node(value: Any, path: KeyPath, problems: list[Problem]) -> Node:
    if len(path) > MOST_DEPTH:
        problems.append(_PLACE.problem(dotted(path[:3]), f"nested deeper than {MOST_DEPTH} levels"))
        return Scalar(None, _PLACE)
    if isinstance(value, Mapping):
        return Keys(
            {
                key: Child(_PLACE, _node(item, (*path, key), problems))
                for key, item in value.items()
                if _is_key(key, path, problems)
            },
            _PLACE,
        )
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return Items(tuple(_node(item, (*path, index), problems) for index, item in enumerate(value)), _PLACE)
    if isinstance(value, PathLike):
        value = fspath(value)
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return Scalar(value, _PLACE)
    wrong = (
        f"{value} is not allowed; numbers must be finite"
        if isinstance(value, float)
        else f"expected a plain value, got {type(value).__name__}"
    )
    problems.append(_PLACE.problem(dotted(path), wrong))
    return Scalar(None, _PLACE)


def _is_key(key: object, path: KeyPath, problems: list[Problem]) -> bool:
    if isinstance(key, str) and key:
        return True
    problems.append(_PLACE.problem(dotted(path), f"a key must be a string, got {key!r}"))
    return False
