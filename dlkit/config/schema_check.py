"""Keys and types checked against the schema: pydantic's errors as problems, one per key, with what would be right."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dlkit.config.fields import annotation_at, is_component, section_at
from dlkit.config.nodes import MISSING, value_at
from dlkit.config.schema import Config
from dlkit.config.source_locations import KeyPath, Locations
from dlkit.config.type_mismatch import mismatch_text, type_text
from dlkit.config.unknown_keys import OTHER_NAMES_OF_NAME, explain_unknown_key
from dlkit.errors import Problem
from dlkit.suggestions import closest

MOST_UNKNOWN_KEYS = 100  # these get hints; a file with more unknown keys is not a config


def check_schema(values: Mapping[str, Any], locations: Locations) -> tuple[Config | None, dict[KeyPath, Problem]]:
    """The typed config, or None, and the problems by path."""
    try:
        return Config.model_validate(values), {}
    except ValidationError as error:
        return None, _problems(error.errors(include_url=False), values, locations)


def _problems(errors: list[ErrorDetails], values: Mapping[str, Any], locations: Locations) -> dict[KeyPath, Problem]:
    by_path: dict[KeyPath, ErrorDetails] = {}
    for error in errors:
        path = _real_path(error, values)
        if path not in by_path or error["type"] == "value_error":
            by_path[path] = error
    # of the errors of a union's members, those that lie deepest in the value belong to the one that was meant
    inner = {path[:length] for path in by_path for length in range(1, len(path))}
    kept = {path: error for path, error in by_path.items() if path not in inner}
    unknown = [path for path, error in kept.items() if error["type"] == "extra_forbidden"]
    for path in _misspelled(kept, unknown):
        del kept[path]
    dropped = set(unknown[MOST_UNKNOWN_KEYS:])
    found = {path: _problem(path, error, values, locations) for path, error in kept.items() if path not in dropped}
    if dropped:
        found[()] = locations.problem((), f"and {len(dropped)} more unknown keys")
    return found


def _real_path(error: ErrorDetails, values: Any) -> KeyPath:
    """The path of the error in the values: pydantic's location without the names of union members."""
    path: list[str | int] = []
    for part in error["loc"]:
        below = value_at(values, (part,), default=MISSING)
        if below is not MISSING:
            values = below
            path.append(part)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    return tuple(path)


def _misspelled(kept: Mapping[KeyPath, ErrorDetails], unknown: list[KeyPath]) -> list[KeyPath]:
    """Missing keys that are there with a typo; the problem of the unknown key is enough."""
    missing = [path for path, error in kept.items() if error["type"] == "missing"]
    return [
        path
        for path in missing
        if any(path[-1] in closest(str(other[-1]), [str(path[-1])]) for other in unknown if other[:-1] == path[:-1])
    ]


def _problem(path: KeyPath, error: ErrorDetails, values: Any, locations: Locations) -> Problem:
    if error["type"] == "extra_forbidden":
        return locations.problem(path, explain_unknown_key(path))
    if error["type"] == "missing":
        return locations.problem(path, _missing_text(path, values))
    if error["type"] == "value_error":
        return locations.problem(path, str(error["ctx"]["error"]), at="value")
    value = value_at(values, path)
    annotation = annotation_at(path)
    if annotation is None:  # a bare name, which pydantic sees as {name: ...}
        return locations.problem(path, error["msg"], at="value")
    return locations.problem(path, mismatch_text(annotation, value), at="value")


def _missing_text(path: KeyPath, values: Any) -> str:
    if len(path) == 1:
        example = {"data": "data: digits", "model": "model: small_cnn"}.get(str(path[0]), "")
        return f"missing; every config needs data and model, for example `{example}`"
    section = section_at(path[:-1])
    if section is None or not is_component(section):
        return f"missing; expected {type_text(annotation_at(path))}"
    given = value_at(values, path[:-1], default={})
    if "layers" in given:
        return "missing; write `name: layers` beside the list"
    other = next((key for key in given if key in OTHER_NAMES_OF_NAME), None)
    return f"missing; write `name` for {other!r}" if other else "missing; a component is picked by its name"
