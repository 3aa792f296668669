"""From a file, or a mapping from Python, to a checked config. All mistakes are found at once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlkit.config.component_check import check_components
from dlkit.config.config_files import ConfigFiles, absolute_paths
from dlkit.config.consistency_check import check_consistency, find_warnings
from dlkit.config.data_name import expand_data_name, split_data_name
from dlkit.config.image_transforms import move_normalize
from dlkit.config.merge import merge_mappings, without_nulls
from dlkit.config.nodes import Child, MappingNode, ScalarNode, from_mapping, to_locations, to_values, value_at
from dlkit.config.overrides import apply_overrides
from dlkit.config.schema import Config
from dlkit.config.schema_check import check_schema
from dlkit.config.source_locations import KeyPath, Location, Locations, dotted, printable
from dlkit.errors import ConfigError, Problem


@dataclass(frozen=True)
class LoadedConfig:
    """A config that has passed every check that needs no torch.

    `values` are the plain values it was made from, `text` is that of the main file, `warnings` are about settings that are allowed
    but probably not wanted, and `notes` say what was understood in another way than it is written.
    """

    config: Config
    values: Mapping[str, Any]
    locations: Locations = field(default_factory=Locations)
    text: str | None = None
    warnings: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def error(self, path: KeyPath, message: str, *, at: str = "value") -> ConfigError:
        """Returns a config error at one key, for the checks that come after loading."""
        return ConfigError([self.locations.problem(path, message, at=at)])


def load_config(
    path: str | Path,
    *,
    overlays: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    places: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Load a YAML file, then the overlay files on top of it in order, then the overrides `a.b=value`, and check the result.

    `places` says what messages call the place of an override that people wrote in other words.
    Raises ConfigError with every problem found, each with its file, line and column.
    """
    problems: list[Problem] = []
    files = ConfigFiles(problems)
    paths = [Path(file) for file in (path, *overlays)]
    trees = [tree for tree in map(files.load_or_report, paths) if tree is not None]
    if len(trees) < len(paths):
        raise ConfigError(problems)
    root = _merge_all(trees)
    root = apply_overrides(root, overrides, problems, places or {})
    return _check(root, problems, files.texts[Path(os.path.realpath(path))])


def load_mapping(values: Mapping[str, Any]) -> LoadedConfig:
    """Check plain values from Python. Paths with `./` are relative to the current folder; `extends` is not allowed.

    Raises ConfigError with every problem found.
    """
    problems: list[Problem] = []
    root = absolute_paths(from_mapping(values, problems), Path.cwd())
    assert isinstance(root, MappingNode)
    return _check(root, problems, None)


def load_data_option(text: str) -> LoadedConfig:
    """Load what `--data` names: a YAML file, which needs no model because only its data are used, or `imagefolder:PATH`,
    `npz:PATH` or `hf:PATH`.

    Raises ConfigError with every problem found.
    """
    problems: list[Problem] = []
    short = split_data_name(text)
    location = Location(f"--data {printable(text)}")
    model = MappingNode({"model": Child(location, ScalarNode("mlp", location))}, location)
    if short:
        name, path = short
        place = path if name == "hf" and not Path(path).exists() else os.path.abspath(path)  # noqa: PTH100
        return load_mapping({"data": {"name": name, "path": place, "val": "none"}, "model": "mlp"})
    if Path(text).is_dir():
        message = f"this is a folder; for its pictures, one folder per class: --data imagefolder:{printable(text)}"
        raise ConfigError([Problem(printable(text), 0, 0, "", message)])
    tree = ConfigFiles(problems).load_or_report(Path(text))
    if tree is None:
        raise ConfigError(problems)
    return _check(tree if "model" in tree.children else _merge_all([tree, model]), problems, None)


def _merge_all(trees: Sequence[MappingNode]) -> MappingNode:
    """Merge trees, later ones over earlier ones; the location of the whole is that of the first."""
    root = trees[0]
    for tree in trees[1:]:
        root = MappingNode(merge_mappings(root, tree).children, root.location)
    return root


def _check(root: MappingNode, problems: list[Problem], text: str | None) -> LoadedConfig:
    root, notes = move_normalize(expand_data_name(without_nulls(root)), problems)
    values, locations = to_values(root), to_locations(root)
    config, found = check_schema(values, locations)
    checkable = config or _without_mistakes(values, found)
    found = {**check_components(values, locations), **found}
    if checkable is not None:
        together = check_consistency(checkable, locations)
        found = {**{path: problem for path, problem in together.items() if not _overlaps(path, found)}, **found}
    problems = [*problems, *_not_yet_reported(found, problems)]
    if problems or config is None:
        raise ConfigError(problems)
    return LoadedConfig(config, values, locations, text, find_warnings(config, locations), notes)


def _without_mistakes(values: dict[str, Any], found: Mapping[KeyPath, Problem]) -> Config | None:
    """The config without its wrong keys, so that the others can still be checked together; None if that fails."""
    anything = {"data": {"name": "?"}, "model": {"name": "?"}}
    kept = anything | {key: dict(item) if isinstance(item, dict) else item for key, item in values.items()}
    for path in found:
        for length in range(len(path), 0, -1):
            parent = value_at(kept, path[: length - 1])
            if length <= 2 and isinstance(parent, dict):
                parent.pop(path[length - 1], None)
                break
    config, again = check_schema(kept, Locations())
    return config if not again else None


def _overlaps(path: KeyPath, found: Mapping[KeyPath, Problem]) -> bool:
    return any(path[: len(other)] == other or other[: len(path)] == path for other in found)


def _not_yet_reported(found: Mapping[KeyPath, Problem], problems: Sequence[Problem]) -> list[Problem]:
    """The problems of keys for which reading has not reported one already."""
    reported = [problem.key for problem in problems if problem.key]
    return [
        problem
        for path, problem in found.items()
        if not any(dotted(path) == key or dotted(path).startswith(f"{key}.") for key in reported)
    ]
