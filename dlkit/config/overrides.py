"""Overrides of a config: `a.b.c=value` sets, `~a.b` removes. Values are read as in a file, so `lr=1e-3` is a number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlkit.config.config_files import absolute_paths
from dlkit.config.document import parse_document
from dlkit.config.fields import annotation_at, kind_at, section_at
from dlkit.config.merge import merge, merge_mappings, name_as_mapping
from dlkit.config.nodes import Child, MappingNode, Node, ScalarNode, SequenceNode
from dlkit.config.source_locations import KeyPath, Location, dotted, printable
from dlkit.config.type_mismatch import value_text
from dlkit.config.unknown_keys import explain_unknown_key, keys_named
from dlkit.errors import Problem
from dlkit.suggestions import did_you_mean


@dataclass(frozen=True)
class Override:
    """One change; `value` is None if the key is to be removed."""

    path: KeyPath
    value: Node | None
    location: Location


class _RejectedError(Exception):
    """An override that cannot be applied; the text says why."""


def apply_overrides(
    root: MappingNode, texts: Sequence[str], problems: list[Problem], places: Mapping[str, str]
) -> MappingNode:
    """Apply all overrides in order, names of components first.

    So `optimizer.momentum=0.9 optimizer=sgd` means the same in either order. What cannot be applied is added to `problems`.
    """
    read = [parse_override(text, problems, places.get(text)) for text in texts]
    overrides = [override for override in read if override]
    for override in sorted(overrides, key=lambda override: not _picks_component(override)):
        try:
            root = _apply(root, override)
        except _RejectedError as error:
            problems.append(override.location.problem(dotted(override.path), str(error)))
    return root


def parse_override(text: str, problems: list[Problem], place: str | None = None) -> Override | None:
    """Read one override. Adds a problem and returns None if it cannot be read."""
    location = Location(place or f"override '{printable(text)}'")
    is_removal = text.startswith("~")
    key, equals, written = text.removeprefix("~").partition("=")
    parts = [part.strip() for part in key.split(".")]
    path: KeyPath = tuple(int(part) if part.isdecimal() and part.isascii() else part for part in parts)
    if is_removal == bool(equals) or not all(parts):
        problems.append(
            location.problem("", "expected key=value with a dotted key, or ~key to remove one" + _example(path))
        )
        return None
    if path[0] == "extends":
        problems.append(location.problem("extends", "files are extended in a file, or put on top with -c FILE"))
        return None
    if is_removal:
        return Override(path, None, location)
    num_before = len(problems)
    node = parse_document(written, location, problems, path=path) or ScalarNode(None, location)
    return Override(path, absolute_paths(node, Path.cwd()), location) if len(problems) == num_before else None


def _example(path: KeyPath) -> str:
    """The key with a value where it is one, what it may be called where not, else a key that is one."""
    if annotation_at(path) is not None:
        return f": {dotted(path)}=..."
    if keys := keys_named(str(path[-1])):
        return f": {' or '.join(f'{key}=...' for key in keys)}"
    return ", such as train.epochs=20"


def _picks_component(override: Override) -> bool:
    if override.value is None:
        return False
    if override.path[-1] == "name":
        return kind_at(override.path[:-1]) is not None
    if kind_at(override.path) is None:
        return False
    return isinstance(override.value, ScalarNode) or (
        isinstance(override.value, MappingNode) and "name" in override.value.children
    )


def _apply(root: MappingNode, override: Override) -> MappingNode:
    changed = _remove(root, override, ()) if override.value is None else _set(root, override, ())
    assert isinstance(changed, MappingNode)
    return changed


def _set(node: Node | None, override: Override, path: KeyPath) -> Node:
    """Returns the node at `path` with an override at or below it applied."""
    assert override.value is not None
    rest = override.path[len(path) :]
    if not rest:
        return merge(node, override.value, path)
    if isinstance(node, SequenceNode):
        index = _index(node, rest[0], path)
        return _with_items(node, index, _set(node.items[index], override, (*path, index)))
    mapping, key = _as_mapping(node, override, path), str(rest[0])
    if len(rest) == 1:
        change = MappingNode({key: Child(override.location, override.value)}, mapping.location)
        return merge_mappings(mapping, change, path)
    child = mapping.children.get(key)
    below = _set(child.node if child else None, override, (*path, rest[0]))
    return _with_child(mapping, key, Child(child.key_location if child else override.location, below))


def _with_child(node: MappingNode, key: str, child: Child) -> MappingNode:
    return MappingNode({**node.children, key: child}, node.location)


def _as_mapping(node: Node | None, override: Override, path: KeyPath) -> MappingNode:
    if node is not None and kind_at(path):
        node = name_as_mapping(node)
    if isinstance(node, MappingNode):
        return node
    if isinstance(node, ScalarNode) and node.value is not None:
        raise _RejectedError(f"{dotted(path)} is {value_text(node.value)}, which has no keys below it")
    part = override.path[len(path)]
    if isinstance(part, int):
        raise _RejectedError(f"{dotted(path)} is not in the config, so it has no item {part}")
    return MappingNode({}, override.location)


def _index(node: SequenceNode, part: str | int, path: KeyPath) -> int:
    if not isinstance(part, int):
        raise _RejectedError(f"{dotted(path)} is a list; its items are {dotted((*path, 0))}, {dotted((*path, 1))}, ...")
    if part >= len(node.items):
        raise _RejectedError(f"{dotted(path)} has {len(node.items)} items, counted from 0")
    return part


def _with_items(node: SequenceNode, index: int, *items: Node) -> SequenceNode:
    """The list with other items, or none, in place of the one at an index."""
    return SequenceNode((*node.items[:index], *items, *node.items[index + 1 :]), node.location)


def _remove(node: Node, override: Override, path: KeyPath) -> Node:
    rest = override.path[len(path) :]
    if isinstance(node, SequenceNode):
        index = _index(node, rest[0], path)
        if len(rest) == 1:
            return _with_items(node, index)
        return _with_items(node, index, _remove(node.items[index], override, (*path, index)))
    key = str(rest[0])
    if not isinstance(node, MappingNode) or key not in node.children:
        return _nothing_to_remove(node, override)
    if len(rest) == 1:
        return MappingNode({name: child for name, child in node.children.items() if name != key}, node.location)
    child = node.children[key]
    return _with_child(node, key, Child(child.key_location, _remove(child.node, override, (*path, key))))


def _nothing_to_remove(node: Node, override: Override) -> Node:
    """Nothing changes if the schema knows the key, as it is not set; any other key is a mistake."""
    if annotation_at(override.path) is not None:
        return node
    if section_at(override.path[:-1]) is not None and isinstance(node, MappingNode):
        present = [key for key in node.children if annotation_at((*override.path[:-1], key)) is None]
        if kind_at(override.path[:-1]):
            raise _RejectedError(
                f"not in the config, so it cannot be removed.{did_you_mean(str(override.path[-1]), present)}"
            )
    raise _RejectedError(explain_unknown_key(override.path))
