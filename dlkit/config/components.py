"""Components against the registry: names, options and their plain types, without importing what they stand for.

Left to `dlkit.core.components`: import paths, components that pass keyword arguments on, and options of torch's own
components when another version of torch is installed than the registry was made from.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dlkit.config.fields import component_paths, kind_at, section_at
from dlkit.config.options import mismatch
from dlkit.config.places import KeyPath, Places
from dlkit.config.suggest import did_you_mean
from dlkit.config.unknown_keys import explain_unknown_key
from dlkit.errors import Problem
from dlkit.registry import Entry, entries, find_entry, is_current, kinds

_WORDS = {
    "models": "model",
    "datasets": "data set",
    "losses": "loss",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "transforms": "transform",
    "batch_transforms": "batch transform",
    "activations": "activation",
}
_SECTIONS = {
    "models": "model",
    "datasets": "data",
    "losses": "loss",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "transforms": "data.transforms",
    "batch_transforms": "data.batch_transforms",
}


def check_components(values: dict[str, Any], places: Places) -> dict[KeyPath, Problem]:
    """Problems of all components, by path."""
    return {
        problem_path: problem
        for path in component_paths(values)
        for problem_path, problem in _check(path, values, places)
    }


def _check(path: KeyPath, values: dict[str, Any], places: Places) -> Iterator[tuple[KeyPath, Problem]]:
    kind = kind_at(path)
    value: Any = values
    for part in path:
        value = value[part]
    section = section_at(path)
    if kind is None or section is None:
        return
    name_path = (*path, "name") if isinstance(value, dict) else path
    name = value.get("name", section.model_fields["name"].default) if isinstance(value, dict) else value
    if not isinstance(name, str) or not name or ":" in name:
        return
    if kind == "losses" and name == "auto":
        name = "mse" if values.get("task") == "regression" else "cross_entropy"
    entry = find_entry(kind, name)
    if entry is None:
        yield name_path, places.problem(name_path, _unknown_name(kind, name), at="value")
    elif entry.options is not None and (entry.is_ours or is_current()):
        given = (
            {key: item for key, item in value.items() if key not in section.model_fields}
            if isinstance(value, dict)
            else {}
        )
        yield from _check_options(path, entry, given, places)


def _unknown_name(kind: str, name: str) -> str:
    word = _WORDS.get(kind, kind)
    if name.endswith(".py"):
        return f"{name} names a file; add the class or function in it: {name}:NAME"
    if other := next((other for other in kinds() if other in _SECTIONS and find_entry(other, name)), None):
        article = "an" if _WORDS[other][0] in "aeiou" else "a"
        return f"{name!r} is no {word}; it is {article} {_WORDS[other]} and belongs to {_SECTIONS[other]}"
    known = {spelling for entry in entries(kind).values() for spelling in (entry.name, *entry.also)}
    return f"no {word} {name!r}.{did_you_mean(name, known)} See `dlkit list {kind}`; your own: package.module:attr"


def title(entry: Entry) -> str:
    """A component as its documentation calls it: `AdamW`, not `adamw`."""
    return entry.target.rpartition(":")[2]


def _check_options(
    path: KeyPath, entry: Entry, given: Mapping[str, Any], places: Places
) -> Iterator[tuple[KeyPath, Problem]]:
    assert entry.options is not None
    for key, value in given.items():
        option_path = (*path, key)
        option = entry.options.get(key)
        if option is None:
            yield (
                option_path,
                places.problem(option_path, explain_unknown_key(option_path, entry.options, owner=title(entry))),
            )
        elif wrong := mismatch(option, value):
            yield option_path, places.problem(option_path, wrong, at="value")
    for option in entry.options.values():
        if option.required and option.name not in given:
            option_path = (*path, option.name)
            yield (
                option_path,
                places.problem(
                    option_path, f"missing; {title(entry)} needs it" + (f" ({option.type})" if option.type else "")
                ),
            )
