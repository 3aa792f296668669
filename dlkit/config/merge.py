"""Merging configs: mappings merge, everything else is replaced, and a component with a new name drops its old options."""

from dlkit.config.fields import annotation_at, is_required, item_type, kind_at, section_at, takes_null
from dlkit.config.nodes import Child, MappingNode, Node, ScalarNode
from dlkit.config.source_locations import KeyPath
from dlkit.registry import find_entry


def merge(base: Node | None, over: Node, path: KeyPath = ()) -> Node:
    """Merge `over` over `base`, the nodes of two configs at the same `path`; neither is changed.

    If one is a mapping and the other a bare name, the name counts as `{name: ...}`. If the name of a component changes, its
    old options are dropped; the keys that its section declares (`data.batch_size`, `optimizer.lr`) are kept.
    """
    if base is None:
        return over
    if kind_at(path) and isinstance(base, MappingNode) != isinstance(over, MappingNode):
        base, over = name_as_mapping(base), name_as_mapping(over)
    if not (isinstance(base, MappingNode) and isinstance(over, MappingNode)):
        return over
    return merge_mappings(base, over, path)


def merge_mappings(base: MappingNode, over: MappingNode, path: KeyPath = ()) -> MappingNode:
    """As `merge`, for two mappings."""
    kind = kind_at(path)
    if kind and _has_new_name(kind, path, base, over):
        base = _declared_only(base, path)
    children = dict(base.children)
    for key, child in over.children.items():
        below = children[key].node if key in children else None
        children[key] = Child(child.key_location, merge(below, child.node, (*path, key)))
    return MappingNode(children, over.location)


def name_as_mapping(node: Node) -> Node:
    """A bare name as `{name: ...}`; any other node unchanged."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return MappingNode({"name": Child(node.location, node)}, node.location)
    return node


def _has_new_name(kind: str, path: KeyPath, base: MappingNode, over: MappingNode) -> bool:
    old, new = _name(base) or _default_name(path), _name(over)
    if new is None or old is None or old == new:
        return False
    entry = find_entry(kind, old)
    return entry is None or entry != find_entry(kind, new)


def _name(node: MappingNode) -> str | None:
    child = node.children.get("name")
    value = child.node.value if child and isinstance(child.node, ScalarNode) else None
    return value if isinstance(value, str) else None


def _default_name(path: KeyPath) -> str | None:
    section = section_at(path)
    field = section.model_fields.get("name") if section else None
    return field.default if field and isinstance(field.default, str) else None


def _declared_only(base: MappingNode, path: KeyPath) -> MappingNode:
    section = section_at(path)
    declared = set(section.model_fields if section else ()) - {"layers"}  # the list belongs to the model named layers
    return MappingNode({key: child for key, child in base.children.items() if key in declared}, base.location)


def without_nulls(root: MappingNode) -> MappingNode:
    """The tree without the sections and lists that are null, which means their defaults."""
    children = {
        key: Child(child.key_location, _without_null_lists(child.node, key))
        for key, child in root.children.items()
        if not _is_unset(child.node, (key,))
    }
    return MappingNode(children, root.location)


def _without_null_lists(node: Node, section: str) -> Node:
    if not isinstance(node, MappingNode):
        return node
    return MappingNode(
        {key: child for key, child in node.children.items() if not _is_unset(child.node, (section, key))}, node.location
    )


def _is_unset(node: Node, path: KeyPath) -> bool:
    if not isinstance(node, ScalarNode) or node.value is not None:
        return False
    annotation = annotation_at(path)
    if annotation is None or takes_null(annotation) or is_required(path):
        return False
    return section_at(path) is not None or item_type(annotation) is not None
