"""Transforms of other pipelines that dlkit does by itself: those that are left out, and those that are said in another way."""

from collections.abc import Iterator
from dataclasses import replace

from dlkit.config.merge import name_as_mapping
from dlkit.config.nodes import Child, MappingNode, Node, ScalarNode, SequenceNode, to_values
from dlkit.config.source_locations import dotted
from dlkit.errors import Problem

DONE_ANYWAY = {"totensor", "toimage", "piltotensor", "topuretensor"}
DONE_OTHERWISE = {
    "todtype": "dlkit scales to 0..1 and casts itself: remove it",
    "convertimagedtype": "dlkit scales to 0..1 and casts itself: remove it",
}
_LISTS = ("transforms", "eval_transforms")


def is_done_anyway(name: str) -> bool:
    """Whether a transform says what happens to every image: it becomes a tensor, and is scaled to 0..1 at the end."""
    return name.casefold() in DONE_ANYWAY


def said_otherwise(name: str) -> str | None:
    """How to say what a transform does, where that is no transform here; None for all others."""
    return DONE_OTHERWISE.get(name.casefold())


def move_normalize(root: MappingNode, problems: list[Problem]) -> tuple[MappingNode, tuple[str, ...]]:
    """Returns the tree with a `Normalize` at the end of the transforms as `data.normalize`, and a note if there was one.

    One that is not at the end, or that says something else than another or than `data.normalize`, is added to `problems`.
    """
    section = root.children.get("data")
    if section is None or not isinstance(section.node, MappingNode):
        return root, ()
    children, found = dict(section.node.children), list[Child]()
    for key in _LISTS:
        if key in children and isinstance(items := children[key].node, SequenceNode):
            kept, taken = _split_off(items, key, problems)
            children[key], found = Child(children[key].key_location, kept), [*found, *taken]
    if not found:
        return root, ()
    if (given := children.get("normalize")) and to_values(given.node) != "auto":
        found.insert(0, given)
    for other in found[1:]:
        if to_values(other.node) != to_values(found[0].node):
            where = "data.normalize" if given is found[0] else f"data.{_LISTS[0]}"
            words = f"{where} says something else, and dlkit normalizes all splits alike; leave one of both out"
            problems.append(other.node.location.problem("data.normalize", words))
    data = MappingNode({**children, "normalize": found[0]}, section.node.location)
    moved = {**root.children, "data": replace(section, node=data)}
    return MappingNode(moved, root.location), ("Normalize is data.normalize: what the transforms of all splits end in",)


def _split_off(items: SequenceNode, key: str, problems: list[Problem]) -> tuple[SequenceNode, list[Child]]:
    """A list of transforms without `Normalize`, and the statistics of each."""
    named = [(item, _name_of(item)) for item in items.items]
    kept = tuple(item for item, name in named if name != "normalize")
    for index, (item, name) in enumerate(named):
        later = [other for _, other in named[index + 1 :] if not is_done_anyway(other)]
        if name == "normalize" and later:
            words = "belongs at the end: dlkit normalizes behind the last transform, which gets pixels from 0 to 255"
            problems.append(item.location.problem(dotted(("data", key, index)), words))
    return SequenceNode(kept, items.location), list(_statistics(item for item, name in named if name == "normalize"))


def _statistics(transforms: Iterator[Node]) -> Iterator[Child]:
    for transform in transforms:
        mapping = name_as_mapping(transform)
        assert isinstance(mapping, MappingNode)  # as it has a name
        kept = {key: child for key, child in mapping.children.items() if key not in ("name", "inplace")}
        yield Child(transform.location, MappingNode(kept, transform.location))


def _name_of(node: Node) -> str:
    """The name of a component, in small letters; empty where there is none."""
    mapping = name_as_mapping(node)
    name = mapping.children.get("name") if isinstance(mapping, MappingNode) else None
    value = name.node.value if name and isinstance(name.node, ScalarNode) else None
    return value.casefold() if isinstance(value, str) else ""
