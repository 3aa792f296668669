"""One config on top of another: mappings merge, all else is replaced, a component under a new name starts anew."""

from dlkit.config.fields import annotation_at, is_required, item_type, kind_at, section_at, takes_null
from dlkit.config.places import KeyPath
from dlkit.config.tree import Child, Items, Keys, Node, Scalar
from dlkit.registry import find_entry


def merge(base: Node | None, over: Node, path: KeyPath = ()) -> Node:
    """`over` on top of `base`, both standing at `path`; neither is changed.

    A bare name on top of a mapping, or under one, counts as `{name: ...}`. Where the name changes, the old component's
    options go; the keys that its section declares (`data.batch_size`, `optimizer.lr`) stay.
    """
    if base is None:
        return over
    kind = kind_at(path)
    if kind and isinstance(base, Keys) != isinstance(over, Keys):
        base, over = spelled_out(base), spelled_out(over)
    if not (isinstance(base, Keys) and isinstance(over, Keys)):
        return over
    if kind and _has_new_name(kind, path, base, over):
        base = _declared_only(base, path)
    children = dict(base.children)
    for key, child in over.children.items():
        below = children[key].node if key in children else None
        children[key] = Child(child.place, merge(below, child.node, (*path, key)))
    return Keys(children, over.place)


def spelled_out(node: Node) -> Node:
    """A bare name as `{name: ...}`; anything else as it is."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return Keys({"name": Child(node.place, node)}, node.place)
    return node


def _has_new_name(kind: str, path: KeyPath, base: Keys, over: Keys) -> bool:
    old, new = _name(base) or _default_name(path), _name(over)
    if new is None or old is None:
        return False
    if old == new:
        return False
    entry = find_entry(kind, old)
    return entry is None or entry != find_entry(kind, new)


def _name(node: Keys) -> str | None:
    child = node.children.get("name")
    value = child.node.value if child and isinstance(child.node, Scalar) else None
    return value if isinstance(value, str) else None


def _default_name(path: KeyPath) -> str | None:
    section = section_at(path)
    field = section.model_fields.get("name") if section else None
    return field.default if field and isinstance(field.default, str) else None


def _declared_only(base: Keys, path: KeyPath) -> Keys:
    section = section_at(path)
    declared = set(section.model_fields if section else ()) - {"layers"}  # the list belongs to the model named layers
    return Keys({key: child for key, child in base.children.items() if key in declared}, base.place)


def without_nulls(root: Keys) -> Keys:
    """The tree without sections and lists that were set to null: that means their defaults, or nothing."""
    children = {
        key: Child(child.place, _lists_dropped(child.node, key))
        for key, child in root.children.items()
        if not _is_unset(child.node, (key,))
    }
    return Keys(children, root.place)


def _lists_dropped(node: Node, section: str) -> Node:
    if not isinstance(node, Keys):
        return node
    return Keys(
        {key: child for key, child in node.children.items() if not _is_unset(child.node, (section, key))}, node.place
    )


def _is_unset(node: Node, path: KeyPath) -> bool:
    if not isinstance(node, Scalar) or node.value is not None:
        return False
    annotation = annotation_at(path)
    if annotation is None or takes_null(annotation) or is_required(path):
        return False
    return section_at(path) is not None or item_type(annotation) is not None


def replace_item(items: Items, index: int, item: Node) -> Items:
    """The list with another item at an index."""
    return Items((*items.items[:index], item, *items.items[index + 1 :]), items.place)
