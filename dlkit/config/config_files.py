"""Config files: their text, the relative paths in them, and the files that they extend."""

import os
from pathlib import Path

from dlkit.config.document import MOST_CHARACTERS, parse_document
from dlkit.config.merge import merge_mappings
from dlkit.config.nodes import Child, MappingNode, Node, ScalarNode, SequenceNode
from dlkit.config.source_locations import Location, printable
from dlkit.errors import ConfigError, Problem
from dlkit.suggestions import did_you_mean

MOST_FILES = 32


def read_text(path: Path) -> str:
    """Read a config file. Raises ConfigError if it cannot be read or is not UTF-8."""
    source = printable_path(path)
    try:
        with path.open("rb") as file:
            data = file.read(4 * MOST_CHARACTERS + 1)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigError([Problem(source, line, column, "", "this file is not UTF-8 text")]) from None
    except FileNotFoundError:
        raise ConfigError([Problem(source, 0, 0, "", f"no such file.{_similar_files(path)}")]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(source, 0, 0, "", "this is a folder; a config is a YAML file")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem(source, 0, 0, "", f"cannot be read: {reason}")]) from None


def printable_path(path: Path) -> str:
    """A path as messages show it: whole, with control characters escaped."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _similar_files(path: Path) -> str:
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.endswith((".yaml", ".yml"))]
    except OSError:
        return ""
    return did_you_mean(path.name, names)


def absolute_paths(node: Node, folder: Path) -> Node:
    """Returns the tree with absolute paths for all strings that begin with `./` or `../`, import paths included."""
    if isinstance(node, SequenceNode):
        return SequenceNode(tuple(absolute_paths(item, folder) for item in node.items), node.location)
    if isinstance(node, MappingNode):
        children = {
            key: Child(child.key_location, absolute_paths(child.node, folder)) for key, child in node.children.items()
        }
        return MappingNode(children, node.location)
    if isinstance(node.value, str) and node.value.startswith(("./", "../")):
        return ScalarNode(os.path.abspath(folder / node.value), node.location)  # noqa: PTH100 (resolve() would follow links)
    return node


class ConfigFiles:
    """Loads files together with those that they extend; every file is read once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.texts: dict[Path, str] = {}
        self._trees: dict[Path, MappingNode | None] = {}
        self._open: list[Path] = []

    def load(self, path: Path) -> MappingNode | None:
        """The tree of a file merged over those that it extends, or None after adding to `problems`.

        Raises ConfigError if the file itself cannot be read.
        """
        real = Path(os.path.realpath(path))
        if real not in self._trees:
            self.texts[real] = read_text(path)
            self._open.append(real)
            root = self._parse(path, self.texts[real])
            self._trees[real] = root and self._extended(path, root)
            self._open.pop()
        return self._trees[real]

    def load_or_report(self, path: Path) -> MappingNode | None:
        """As `load`, but a file that cannot be read is added to `problems` too."""
        try:
            return self.load(path)
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None

    def _parse(self, path: Path, text: str) -> MappingNode | None:
        top = Location(printable_path(path), 1, 1)
        num_before = len(self.problems)
        root = parse_document(text, top, self.problems)
        if isinstance(root, MappingNode):
            tree = absolute_paths(root, Path(os.path.abspath(path)).parent)  # noqa: PTH100 (resolve() would follow links)
            assert isinstance(tree, MappingNode)
            return tree
        if len(self.problems) == num_before:
            is_empty = root is None or (isinstance(root, ScalarNode) and root.value is None)
            what = "this file is empty" if is_empty else "expected sections, such as `data:` and `model:`"
            self.problems.append(top.problem("", f"{what}; `dlkit config init` writes a file to start from"))
        return None

    def _extended(self, path: Path, root: MappingNode) -> MappingNode:
        """The tree of `path`, without `extends`, merged over the files that it extends."""
        if "extends" not in root.children:
            return root
        child = root.children["extends"]
        own = MappingNode({key: value for key, value in root.children.items() if key != "extends"}, root.location)
        merged: MappingNode | None = None
        nodes = child.node.items if isinstance(child.node, SequenceNode) else (child.node,)
        for node in nodes[:MOST_FILES]:
            base = self._base(path, node)
            merged = base if merged is None or base is None else merge_mappings(merged, base)
        return own if merged is None else merge_mappings(merged, own)

    def _base(self, path: Path, node: Node) -> MappingNode | None:
        """One file that `path` extends, or None after a problem at its name in `path`."""
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            self._refuse(node, "expected a file name or a list of them")
            return None
        base = Path(os.path.normpath(path.parent / node.value))
        if base.is_absolute() and not path.is_absolute():
            base = Path(os.path.relpath(base))
        real = Path(os.path.realpath(base))
        if real in self._open:
            chain = [*self._open[self._open.index(real) :], real]
            self._refuse(node, f"a circle: {' -> '.join(printable(file.name) for file in chain)}")
            return None
        if len(self.texts) >= MOST_FILES:
            self._refuse(node, f"more than {MOST_FILES} files")
            return None
        try:
            return self.load(base)
        except ConfigError as error:
            self._refuse(node, f"{printable_path(base)}: {error.problems[0].message}")
            return None

    def _refuse(self, node: Node, message: str) -> None:
        self.problems.append(node.location.problem("extends", message))
