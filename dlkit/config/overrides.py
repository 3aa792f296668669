"""`a.b.c=value` and `~a.b` on top of a config. Values are read as in a file, so `lr=1e-3` is a number here too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlkit.config.document import parse_document
from dlkit.config.fields import annotation_at, kind_at, section_at
from dlkit.config.files import absolute_paths
from dlkit.config.merge import merge, replace_item, spelled_out
from dlkit.config.places import KeyPath, Place, dotted, printable
from dlkit.config.suggest import did_you_mean
from dlkit.config.tree import Child, Items, Keys, Node, Scalar
from dlkit.config.unknown_keys import explain_unknown_key
from dlkit.config.words import got
from dlkit.errors import Problem


@dataclass(frozen=True)
class Override:
    """One change; `value` is None where the key is to be removed."""

    path: KeyPath
    value: Node | None
    place: Place


class _RejectedError(Exception):
    """An override that cannot be applied; the text says why."""


def apply_overrides(root: Keys, texts: Sequence[str], problems: list[Problem]) -> Keys:
    """The tree with all overrides applied in order, names of components first: `optimizer.momentum=0.9 optimizer=sgd`
    means the same in either order.
    """
    overrides = [override for text in texts if (override := parse_override(text, problems))]
    for override in sorted(overrides, key=lambda override: not _picks_component(override)):
        try:
            root = _apply(root, override)
        except _RejectedError as error:
            problems.append(override.place.problem(dotted(override.path), str(error)))
    return root


def parse_override(text: str, problems: list[Problem]) -> Override | None:
    """Read one override, or add a problem and give None."""
    place = Place(f"override '{printable(text)}'")
    is_removal = text.startswith("~")
    key, equals, written = text.removeprefix("~").partition("=")
    parts = [part.strip() for part in key.split(".")]
    if is_removal == bool(equals) or not all(parts):
        problems.append(
            place.problem("", "expected key=value with a dotted key, such as train.epochs=20, or ~key to remove one")
        )
        return None
    path: KeyPath = tuple(int(part) if part.isdecimal() and part.isascii() else part for part in parts)
    if path[0] == "extends":
        problems.append(place.problem("extends", "files are extended in a file, or put on top with -c FILE"))
        return None
    if is_removal:
        return Override(path, None, place)
    num_before = len(problems)
    node = parse_document(written, place, problems, path=path) or Scalar(None, place)
    return Override(path, absolute_paths(node, Path.cwd()), place) if len(problems) == num_before else None


def _picks_component(override: Override) -> bool:
    if override.value is None:
        return False
    if override.path[-1] == "name":
        return kind_at(override.path[:-1]) is not None
    if kind_at(override.path) is None:
        return False
    return isinstance(override.value, Scalar) or (
        isinstance(override.value, Keys) and "name" in override.value.children
    )


def _apply(root: Keys, override: Override) -> Keys:
    changed = _remove(root, override, ()) if override.value is None else _set(root, override, ())
    assert isinstance(changed, Keys)
    return changed


def _set(node: Node | None, override: Override, path: KeyPath) -> Node:
    """The node at `path` after an override of something at or below it."""
    assert override.value is not None
    rest = override.path[len(path) :]
    if not rest:
        return merge(node, override.value, path)
    if isinstance(node, Items):
        index = _index(node, rest[0], path)
        return replace_item(node, index, _set(node.items[index], override, (*path, index)))
    keys, key = _as_keys(node, override, path), str(rest[0])
    if len(rest) == 1:
        return merge(keys, Keys({key: Child(override.place, override.value)}, keys.place), path)
    child = keys.children.get(key)
    below = _set(child.node if child else None, override, (*path, rest[0]))
    return Keys({**keys.children, key: Child(child.place if child else override.place, below)}, keys.place)


def _as_keys(node: Node | None, override: Override, path: KeyPath) -> Keys:
    if node is not None and kind_at(path):
        node = spelled_out(node)
    if isinstance(node, Keys):
        return node
    if isinstance(node, Scalar) and node.value is not None:
        raise _RejectedError(f"{dotted(path)} is {got(node.value)}, which has no keys below it")
    part = override.path[len(path)]
    if isinstance(part, int):
        raise _RejectedError(f"{dotted(path)} is not in the config, so it has no item {part}")
    return Keys({}, override.place)


def _index(node: Items, part: str | int, path: KeyPath) -> int:
    if not isinstance(part, int):
        raise _RejectedError(f"{dotted(path)} is a list; its items are {dotted((*path, 0))}, {dotted((*path, 1))}, ...")
    if part >= len(node.items):
        raise _RejectedError(f"{dotted(path)} has {len(node.items)} items, counted from 0")
    return part


def _remove(node: Node, override: Override, path: KeyPath) -> Node:
    rest = override.path[len(path) :]
    if isinstance(node, Items):
        index = _index(node, rest[0], path)
        if len(rest) == 1:
            return Items((*node.items[:index], *node.items[index + 1 :]), node.place)
        return replace_item(node, index, _remove(node.items[index], override, (*path, index)))
    key = str(rest[0])
    if not isinstance(node, Keys) or key not in node.children:
        return _nothing_to_remove(node, override)
    if len(rest) == 1:
        return Keys({name: child for name, child in node.children.items() if name != key}, node.place)
    child = node.children[key]
    return Keys({**node.children, key: Child(child.place, _remove(child.node, override, (*path, key)))}, node.place)


def _nothing_to_remove(node: Node, override: Override) -> Node:
    """A key that could stand there is simply not set; any other is a mistake."""
    if annotation_at(override.path) is not None:
        return node
    if section_at(override.path[:-1]) is not None and isinstance(node, Keys):
        present = [key for key in node.children if annotation_at((*override.path[:-1], key)) is None]
        if kind_at(override.path[:-1]):
            raise _RejectedError(
                f"not in the config, so it cannot be removed.{did_you_mean(str(override.path[-1]), present)}"
            )
    raise _RejectedError(explain_unknown_key(override.path))
