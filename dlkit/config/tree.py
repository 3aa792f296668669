"""A config before it is checked: plain values, each with the place where it was written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dlkit.config.places import KeyPath, Place, Places
from dlkit.config.scalars import Plain


@dataclass(frozen=True)
class Scalar:
    """A string, number, truth value or null."""

    value: Plain
    place: Place


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple["Node", ...]
    place: Place


@dataclass(frozen=True)
class Child:
    """A value beside the place of its key."""

    place: Place
    node: "Node"


@dataclass(frozen=True)
class Keys:
    """A mapping; its order is the order of the file."""

    children: Mapping[str, Child]
    place: Place


Node = Scalar | Items | Keys


def to_values(node: Node) -> Any:
    """The plain values without their places."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [to_values(item) for item in node.items]
    return {key: to_values(child.node) for key, child in node.children.items()}


def to_places(root: Node) -> Places:
    """The places of all keys and values. An item of a list is its own key."""
    keys: dict[KeyPath, Place] = {}
    values: dict[KeyPath, Place] = {}
    for path, key_place, node in _walk((), root.place, root):
        keys[path], values[path] = key_place, node.place
    return Places(keys, values, root.place.source)


def _walk(path: KeyPath, key_place: Place, node: Node) -> Iterator[tuple[KeyPath, Place, Node]]:
    yield path, key_place, node
    if isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from _walk((*path, index), item.place, item)
    if isinstance(node, Keys):
        for key, child in node.children.items():
            yield from _walk((*path, key), child.place, child.node)
