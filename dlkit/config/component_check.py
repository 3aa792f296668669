"""Components checked against the registry: names, options and their plain types, without importing anything.

`dlkit.core.components` checks the rest later: import paths, components that pass keyword arguments on, and options of
torch's own components if the installed torch is not the one that the registry was made from.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dlkit.config.fields import KIND_OF_SECTION, component_paths, kind_at, section_at
from dlkit.config.image_transforms import is_done_anyway, said_otherwise
from dlkit.config.nodes import value_at
from dlkit.config.option_types import option_mismatch
from dlkit.config.source_locations import KeyPath, Locations
from dlkit.config.unknown_keys import explain_unknown_key
from dlkit.errors import Problem
from dlkit.registry import Entry, find_entry, is_current, kinds, spellings
from dlkit.suggestions import did_you_mean
from dlkit.tasks import TRAITS

_TITLES = {
    "models": "model",
    "datasets": "data set",
    "losses": "loss",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "transforms": "transform",
    "batch_transforms": "batch transform",
}
_SECTIONS = {kind: section for section, kind in KIND_OF_SECTION.items()}
_SECTIONS |= {"transforms": "data.transforms", "batch_transforms": "data.batch_transforms"}


def check_components(values: dict[str, Any], locations: Locations) -> dict[KeyPath, Problem]:
    """Problems of all components, by path."""
    return {
        problem_path: problem
        for path in component_paths(values)
        for problem_path, problem in _check(path, values, locations)
    }


def _check(path: KeyPath, values: dict[str, Any], locations: Locations) -> Iterator[tuple[KeyPath, Problem]]:
    kind, section, value = kind_at(path), section_at(path), value_at(values, path)
    if kind is None or section is None:
        return
    name_path = (*path, "name") if isinstance(value, dict) else path
    name = value.get("name", section.model_fields["name"].default) if isinstance(value, dict) else value
    if not isinstance(name, str) or not name or ":" in name or (kind == "models" and name.startswith("timm/")):
        return
    if kind == "losses" and name == "auto":
        traits = [entry for name, entry in TRAITS.items() if name == values.get("task")] or [TRAITS["classification"]]
        name = traits[0].default_loss
    keys = value if isinstance(value, dict) else {}
    given = {key: item for key, item in keys.items() if key not in section.model_fields}
    if kind == "transforms" and (words := said_otherwise(name)):
        yield name_path, locations.problem(name_path, words, at="value")
        return
    if kind == "transforms" and is_done_anyway(name):
        for key in given:
            yield (
                (*path, key),
                locations.problem((*path, key), f"{name} has no options here: it is what happens anyway"),
            )
        return
    entry = find_entry(kind, name)
    if entry is None:
        yield name_path, locations.problem(name_path, _unknown_name(kind, name), at="value")
    elif entry.options is not None and (entry.is_ours or is_current()):
        yield from _check_options(path, entry, given, locations, beside=keys)


def _unknown_name(kind: str, name: str) -> str:
    title = _TITLES[kind]
    if name.endswith(".py"):
        return f"{name} names a file; add the class or function in it: {name}:NAME"
    if other := next((other for other in kinds() if other in _SECTIONS and find_entry(other, name)), None):
        article = "an" if _TITLES[other][0] in "aeiou" else "a"
        return f"{name!r} is no {title}; it is {article} {_TITLES[other]} and belongs to {_SECTIONS[other]}"
    return f"no {title} {name!r}.{did_you_mean(name, spellings(kind))} See `dlkit list {kind}`; your own: package.module:attr"


def _check_options(
    path: KeyPath, entry: Entry, given: Mapping[str, Any], locations: Locations, *, beside: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, Problem]]:
    assert entry.options is not None
    for key, value in given.items():
        option_path = (*path, key)
        option = entry.options.get(key)
        if option is None:
            message = explain_unknown_key(option_path, entry.options, owner=entry.title)
            yield option_path, locations.problem(option_path, message)
        elif wrong := option_mismatch(option, value):
            yield option_path, locations.problem(option_path, wrong, at="value")
    for option in entry.options.values():
        if option.required and option.name not in given:
            option_path = (*path, option.name)
            message = f"missing; {entry.title} needs it" + (f" ({option.type})" if option.type else "")
            if option.name == "path" and "root" in beside:
                option_path, message = (*path, "root"), f"{entry.title} calls it path: write data.path"
            yield option_path, locations.problem(option_path, message)
