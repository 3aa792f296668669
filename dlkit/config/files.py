"""Config files: their text, their relative paths, and the files that they extend."""

import os
from pathlib import Path

from dlkit.config.document import MOST_CHARACTERS, parse_document
from dlkit.config.merge import merge
from dlkit.config.places import Place, printable
from dlkit.config.suggest import did_you_mean
from dlkit.config.tree import Child, Items, Keys, Node, Scalar
from dlkit.errors import ConfigError, Problem

MOST_FILES = 32


def read_text(path: Path) -> str:
    """The text of a config file. Raises ConfigError when it cannot be read or is not UTF-8."""
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
        raise ConfigError([Problem(source, 0, 0, "", f"no such file.{_near_files(path)}")]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(source, 0, 0, "", "this is a folder; a config is a YAML file")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem(source, 0, 0, "", f"cannot be read: {reason}")]) from None


def printable_path(path: Path) -> str:
    """A path as messages show it: whole, but without characters that could upset a terminal."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _near_files(path: Path) -> str:
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.endswith((".yaml", ".yml"))]
    except OSError:
        return ""
    return did_you_mean(path.name, names)


def absolute_paths(node: Node, folder: Path) -> Node:
    """The tree with every string that begins with `./` or `../` made absolute, import paths of files included."""
    if isinstance(node, Items):
        return Items(tuple(absolute_paths(item, folder) for item in node.items), node.place)
    if isinstance(node, Keys):
        children = {key: Child(child.place, absolute_paths(child.node, folder)) for key, child in node.children.items()}
        return Keys(children, node.place)
    if isinstance(node.value, str) and node.value.startswith(("./", "../")):
        return Scalar(os.path.abspath(folder / node.value), node.place)  # noqa: PTH100 (resolve() would follow links)
    return node


class ConfigFiles:
    """Reads files together with those that they extend; every file is read once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.texts: dict[Path, str] = {}
        self._trees: dict[Path, Keys | None] = {}
        self._open: list[Path] = []

    def load(self, path: Path) -> Keys | None:
        """The tree of a file on top of what it extends, or None where nothing can be made of it.

        Raises ConfigError when the file cannot be read at all.
        """
        real = Path(os.path.realpath(path))
        if real not in self._trees:
            self.texts[real] = read_text(path)
            self._open.append(real)
            root = self._parse(path, self.texts[real])
            self._trees[real] = root and self._extended(path, root)
            self._open.pop()
        return self._trees[real]

    def load_or_report(self, path: Path) -> Keys | None:
        """As `load`, with a file that cannot be read at all among the problems too."""
        try:
            return self.load(path)
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None

    def _parse(self, path: Path, text: str) -> Keys | None:
        top = Place(printable_path(path), 1, 1)
        num_before = len(self.problems)
        root = parse_document(text, top, self.problems)
        if isinstance(root, Keys):
            tree = absolute_paths(root, Path(os.path.abspath(path)).parent)  # noqa: PTH100 (resolve() would follow links)
            assert isinstance(tree, Keys)
            return tree
        if len(self.problems) == num_before:
            what = (
                "this file is empty"
                if root is None or (isinstance(root, Scalar) and root.value is None)
                else "expected sections, such as `data:` and `model:`"
            )
            self.problems.append(top.problem("", f"{what}; `dlkit config init` writes a file to start from"))
        return None

    def _extended(self, path: Path, root: Keys) -> Keys:
        """The tree of the file `path` on top of the files that it extends, without the key `extends`."""
        if "extends" not in root.children:
            return root
        child = root.children["extends"]
        own = Keys({key: value for key, value in root.children.items() if key != "extends"}, root.place)
        merged: Node | None = None
        nodes = child.node.items if isinstance(child.node, Items) else (child.node,)
        for node in nodes[:MOST_FILES]:
            base = self._base(path, node)
            merged = base if merged is None or base is None else merge(merged, base)
        tree = merge(merged, own)
        assert isinstance(tree, Keys)
        return tree

    def _base(self, path: Path, node: Node) -> Keys | None:
        """One file that `path` extends; what is wrong with it is reported where it is named."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            self.problems.append(node.place.problem("extends", "expected a file name or a list of them"))
            return None
        base = Path(os.path.normpath(path.parent / node.value))
        if base.is_absolute() and not path.is_absolute():
            base = Path(os.path.relpath(base))
        if Path(os.path.realpath(base)) in self._open:
            chain = [*self._open[self._open.index(Path(os.path.realpath(base))) :], Path(os.path.realpath(base))]
            self.problems.append(
                node.place.problem("extends", f"a circle: {' -> '.join(printable(file.name) for file in chain)}")
            )
            return None
        if len(self.texts) >= MOST_FILES:
            self.problems.append(node.place.problem("extends", f"more than {MOST_FILES} files"))
            return None
        try:
            return self.load(base)
        except ConfigError as error:
            self.problems.append(node.place.problem("extends", f"{printable_path(base)}: {error.problems[0].message}"))
            return None
