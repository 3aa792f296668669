"""Keys and types: pydantic's findings as problems, one per key, each with its place and what would be right."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dlkit.config.fields import annotation_at, is_component, section_at
from dlkit.config.places import KeyPath, Places
from dlkit.config.schema import Config
from dlkit.config.suggest import closest
from dlkit.config.unknown_keys import NAME_WORDS, explain_unknown_key
from dlkit.config.words import expected, refusal
from dlkit.errors import Problem

_NOTHING = object()
MOST_UNKNOWN_KEYS = 100  # hints are made for so many; a file with more is not a config


def check_schema(values: Mapping[str, Any], places: Places) -> tuple[Config | None, dict[KeyPath, Problem]]:
    """The typed config, or None, and the problems by path."""
    try:
        return Config.model_validate(values), {}
    except ValidationError as error:
        return None, _problems(error.errors(include_url=False), values, places)


def _problems(errors: list[ErrorDetails], values: Mapping[str, Any], places: Places) -> dict[KeyPath, Problem]:
    by_path: dict[KeyPath, ErrorDetails] = {}
    for error in errors:
        path = _real_path(error, values)
        if path not in by_path or error["type"] == "value_error":
            by_path[path] = error
    # of a union's branches the one that looks deepest into the value is the one that was meant
    inner = {path[:length] for path in by_path for length in range(1, len(path))}
    kept = {path: error for path, error in by_path.items() if path not in inner}
    unknown = [path for path, error in kept.items() if error["type"] == "extra_forbidden"]
    for path in _typed_wrong(kept, unknown):
        del kept[path]
    dropped = set(unknown[MOST_UNKNOWN_KEYS:])
    found = {path: _problem(path, error, values, places) for path, error in kept.items() if path not in dropped}
    if dropped:
        found[()] = places.problem((), f"and {len(dropped)} more unknown keys")
    return found


def _real_path(error: ErrorDetails, values: Any) -> KeyPath:
    """Where the error is in the values: pydantic's location without the names of union branches."""
    path: list[str | int] = []
    for part in error["loc"]:
        below = value_at(values, (part,), default=_NOTHING)
        if below is not _NOTHING:
            values = below
            path.append(part)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    return tuple(path)


def _typed_wrong(kept: Mapping[KeyPath, ErrorDetails], unknown: list[KeyPath]) -> list[KeyPath]:
    """Missing keys that stand there with a slip of the finger: the unknown key says enough."""
    missing = [path for path, error in kept.items() if error["type"] == "missing"]
    return [
        path
        for path in missing
        if any(path[-1] in closest(str(other[-1]), [str(path[-1])]) for other in unknown if other[:-1] == path[:-1])
    ]


def _problem(path: KeyPath, error: ErrorDetails, values: Any, places: Places) -> Problem:
    if error["type"] == "extra_forbidden":
        return places.problem(path, explain_unknown_key(path))
    if error["type"] == "missing":
        return places.problem(path, _missing_words(path, values))
    if error["type"] == "value_error":
        return places.problem(path, str(error["ctx"]["error"]), at="value")
    value = value_at(values, path)
    annotation = annotation_at(path)
    if annotation is None:  # a bare name stands for {name: ...}
        return places.problem(path, error["msg"], at="value")
    return places.problem(path, refusal(annotation, value), at="value")


def _missing_words(path: KeyPath, values: Any) -> str:
    if len(path) == 1:
        example = {"data": "data: digits", "model": "model: small_cnn"}.get(str(path[0]), "")
        return f"missing; every config needs data and model, for example `{example}`"
    section = section_at(path[:-1])
    if section is None or not is_component(section):
        return f"missing; expected {expected(annotation_at(path))}"
    given = value_at(values, path[:-1], default={})
    if "layers" in given:
        return "missing; write `name: layers` beside the list"
    word = next((key for key in given if key in NAME_WORDS), None)
    return f"missing; write `name` for {word!r}" if word else "missing; a component is picked by its name"


def value_at(values: Any, path: KeyPath, *, default: Any = None) -> Any:
    """The value at a path, or the default where there is none."""
    for part in path:
        if isinstance(values, dict):
            values = values.get(part, _NOTHING)
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return default
        if values is _NOTHING:
            return default
    return values
