"""The door: from a file, or a mapping from Python, to a checked config. All mistakes are found in one go."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlkit.config.check import check_schema, value_at
from dlkit.config.components import check_components
from dlkit.config.consistency import check_consistency, find_warnings
from dlkit.config.files import ConfigFiles, absolute_paths
from dlkit.config.loaded import LoadedConfig
from dlkit.config.mapping import tree_of_mapping
from dlkit.config.merge import merge, without_nulls
from dlkit.config.overrides import apply_overrides
from dlkit.config.places import KeyPath, Place, Places, dotted, printable
from dlkit.config.schema import Config
from dlkit.config.tree import Child, Keys, Scalar, to_places, to_values
from dlkit.errors import ConfigError, Problem


def load_config(
    path: str | Path, *, overlays: Sequence[str | Path] = (), overrides: Sequence[str] = ()
) -> LoadedConfig:
    """A checked config from a YAML file, overlay files on top of it in order, and `a.b=value` overrides on top of all.

    Raises ConfigError with every problem found, each with its file, line and column.
    """
    problems: list[Problem] = []
    files = ConfigFiles(problems)
    paths = [Path(file) for file in (path, *overlays)]
    trees = [tree for tree in map(files.load_or_report, paths) if tree is not None]
    if len(trees) < len(paths):
        raise ConfigError(problems)
    root = merge_all(trees)
    root = apply_overrides(root, overrides, problems)
    return _check(root, problems, files.texts[Path(os.path.realpath(path))])


def load_mapping(values: Mapping[str, Any]) -> LoadedConfig:
    """A checked config from plain Python values. Paths with `./` count from the current folder; nothing is extended.

    Raises ConfigError with every problem found.
    """
    problems: list[Problem] = []
    root = absolute_paths(tree_of_mapping(values, problems), Path.cwd())
    assert isinstance(root, Keys)
    return _check(root, problems, None)


def load_data_option(text: str) -> LoadedConfig:
    """The config meant by `--data`: a YAML file, of which only the data count so that it needs no model, or
    `imagefolder:PATH`. Raises ConfigError like the others.
    """
    problems: list[Problem] = []
    name, colon, path = text.partition(":")
    place = Place(f"--data {printable(text)}")
    model = Keys({"model": Child(place, Scalar("mlp", place))}, place)
    if colon and name.casefold() == "imagefolder":
        return load_mapping({"data": {"name": name, "path": os.path.abspath(path), "val": "none"}, "model": "mlp"})  # noqa: PTH100
    if Path(text).is_dir():
        message = f"this is a folder; for its pictures, one folder per class: --data imagefolder:{printable(text)}"
        raise ConfigError([Problem(printable(text), 0, 0, "", message)])
    tree = ConfigFiles(problems).load_or_report(Path(text))
    if tree is None:
        raise ConfigError(problems)
    return _check(tree if "model" in tree.children else merge_all([tree, model]), problems, None)


def merge_all(trees: Sequence[Keys]) -> Keys:
    """The trees on top of each other, the last one uppermost; places of the whole are those of the first."""
    root = trees[0]
    for tree in trees[1:]:
        merged = merge(root, tree)
        assert isinstance(merged, Keys)
        root = Keys(merged.children, root.place)
    return root


def _check(root: Keys, problems: list[Problem], text: str | None) -> LoadedConfig:
    root = without_nulls(root)
    values, places = to_values(root), to_places(root)
    config, found = check_schema(values, places)
    checkable = config or _without_mistakes(values, found)
    found = {**check_components(values, places), **found}
    if checkable is not None:
        together = check_consistency(checkable, places)
        found = {**{path: problem for path, problem in together.items() if not _touches(path, found)}, **found}
    problems = [*problems, *_not_yet_told(found, problems)]
    if problems or config is None:
        raise ConfigError(problems)
    return LoadedConfig(config, values, places, text, find_warnings(config, places))


def _without_mistakes(values: dict[str, Any], found: Mapping[KeyPath, Problem]) -> Config | None:
    """The config without its wrong keys, so that the others can still be checked together; None where that fails."""
    anything = {"data": {"name": "?"}, "model": {"name": "?"}}
    kept = anything | {key: dict(item) if isinstance(item, dict) else item for key, item in values.items()}
    for path in found:
        for length in range(len(path), 0, -1):
            parent = value_at(kept, path[: length - 1])
            if length <= 2 and isinstance(parent, dict):
                parent.pop(path[length - 1], None)
                break
    config, again = check_schema(kept, Places())
    return config if not again else None


def _touches(path: KeyPath, found: Mapping[KeyPath, Problem]) -> bool:
    return any(path[: len(other)] == other or other[: len(path)] == path for other in found)


def _not_yet_told(found: Mapping[KeyPath, Problem], problems: Sequence[Problem]) -> list[Problem]:
    """Problems with keys that reading has not complained about already."""
    told = [problem.key for problem in problems if problem.key]
    return [
        problem
        for path, problem in found.items()
        if not any(dotted(path) == key or dotted(path).startswith(f"{key}.") for key in told)
    ]
