"""Settings of runs by dotted key, and in which of them runs differ, from each other and from what a config has by default."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of nested sections by dotted key, in their order; a list is one setting."""
    return dict(_flatten(config, ""))


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


@cache
def default_settings() -> Mapping[str, Any]:
    """Returns the settings that a config has where nothing is said, by dotted key; the names of data and model have none."""
    from dlkit.config import Config

    config = Config.model_validate({"data": "unused", "model": "unused"}).model_dump(mode="json")
    del config["data"]["name"], config["model"]["name"]
    return flat_settings(config)


def changed_settings(settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the settings that are not the defaults: default and value by key. Where the default is `auto`, the resolved config
    does not tell whether somebody chose, so those are left out.
    """
    defaults = default_settings()
    changed = {key: (defaults.get(key), value) for key, value in settings.items() if value != defaults.get(key)}
    return {key: pair for key, pair in changed.items() if not _was_auto(key, defaults)}


def _was_auto(key: str, defaults: Mapping[str, Any]) -> bool:
    parts = key.split(".")
    return any(defaults.get(".".join(parts[:length])) == "auto" for length in range(1, len(parts) + 1))


def differing_settings(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns the settings, by key, that are not the same in all runs, with the value of each; `None` also where a run has none.

    A run of an older dlkit has the default for a key that is new.
    """
    keys = dict.fromkeys(key for settings in runs for key in settings)
    found = {}
    for key in keys:
        values = [settings[key] if key in settings else default_settings().get(key) for settings in runs]
        if any(value != values[0] or isinstance(value, bool) != isinstance(values[0], bool) for value in values):
            found[key] = values
    return found
