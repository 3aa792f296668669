"""`hf:NAME` and its like: the name of a kind of data set with its path in one word."""

from dlkit.config.nodes import Child, MappingNode, Node, ScalarNode

SHORT = ("hf", "imagefolder", "npz")


def split_data_name(text: str) -> tuple[str, str] | None:
    """Returns the kind of data set and its path; None for a name that is no such word.

    >>> split_data_name("hf:ylecun/mnist"), split_data_name("birds:Birds")
    (('hf', 'ylecun/mnist'), None)
    """
    name, colon, path = text.partition(":")
    return (name.casefold(), path) if colon and path and name.casefold() in SHORT else None


def expand_data_name(root: MappingNode) -> MappingNode:
    """Returns a config in which `data: hf:NAME` has become `{name: hf, path: NAME}`."""
    data = root.children.get("data")
    node: Node | None = data.node if data else None
    child = node.children.get("name") if isinstance(node, MappingNode) else data
    parts = _parts(child)
    if data is None or child is None or parts is None or (isinstance(node, MappingNode) and "path" in node.children):
        return root
    added = {key: Child(child.key_location, ScalarNode(value, child.node.location)) for key, value in parts.items()}
    others = node.children if isinstance(node, MappingNode) else {}
    section = MappingNode({**others, **added}, data.node.location)
    return MappingNode({**root.children, "data": Child(data.key_location, section)}, root.location)


def _parts(child: Child | None) -> dict[str, str] | None:
    if child is None or not isinstance(child.node, ScalarNode) or not isinstance(child.node.value, str):
        return None
    found = split_data_name(child.node.value)
    return {"name": found[0], "path": found[1]} if found else None
