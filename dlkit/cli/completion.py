"""What the Tab key offers, without torch: names, keys of configs with their values, configs and model files."""

from collections.abc import Iterable
from glob import escape, iglob
from itertools import islice
from typing import Literal, get_args, get_origin

CONFIGS = (".yaml", ".yml")
MODELS = (".pt", ".pth", ".safetensors", ".onnx")
BELOW = ("", "/*", "/*/*")  # how far below what was typed files are looked for
MOST_FILES = 200


def complete_kinds(incomplete: str) -> list[str]:
    """The kinds of `dlkit list`."""
    from dlkit.registry import kinds

    return [kind for kind in kinds() if kind.startswith(incomplete.replace("-", "_"))]


def complete_configs(incomplete: str) -> list[str]:
    """YAML files."""
    return _files(incomplete, CONFIGS)


def complete_models(incomplete: str) -> list[str]:
    """Model files and others that commands take for one."""
    return _files(incomplete, MODELS)


def complete_curves(incomplete: str) -> list[str]:
    """What `dlkit lr-plot` draws: schedules, several joined by commas, and configs."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in _names("schedules", last)] + _files(incomplete, CONFIGS)


def complete_overrides(incomplete: str) -> list[str]:
    """`KEY=`, and behind it the values where they can be listed."""
    removal = "~" if incomplete.startswith("~") else ""
    key, equals, value = incomplete.removeprefix("~").partition("=")
    if equals:
        return [
            f"{key}={word}" for word in _values(tuple(key.split("."))) if word.casefold().startswith(value.casefold())
        ]
    return [f"{removal}{known}{'' if removal else '='}" for known in _keys() if known.startswith(key)]


def _keys() -> Iterable[str]:
    from dlkit.config import annotation_at, sections_by_key

    paths = ((*section, key) for key, places in sections_by_key().items() for section in places)
    return sorted(
        ".".join(map(str, path)) for path in paths if path != ("extends",) and annotation_at(path) is not None
    )


def _values(path: tuple[str, ...]) -> list[str]:
    from dlkit.config import annotation_at, kind_at, plain_types

    kind = kind_at(path if path[-1] != "name" else path[:-1])
    if kind:
        return _names(kind, "")
    found: list[str] = []
    for inner in plain_types(annotation_at(path)) if annotation_at(path) is not None else ():
        if get_origin(inner) is Literal:
            found += map(str, get_args(inner))
        elif inner is bool:
            found += ["true", "false"]
    return found


def _names(kind: str, start: str) -> list[str]:
    from dlkit.registry import entries

    return [name for name in entries(kind) if name.casefold().startswith(start.casefold())]


def _files(incomplete: str, endings: tuple[str, ...]) -> list[str]:
    patterns = [f"{escape(incomplete)}*{below}" for below in BELOW]
    found = (path for pattern in patterns for path in iglob(pattern) if path.endswith(endings))  # noqa: PTH207
    return sorted(islice(found, MOST_FILES))
