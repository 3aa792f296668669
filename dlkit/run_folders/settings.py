"""Settings of runs by dotted key, and in which of them runs differ, from each other and from what a config has by default."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

# where things lie, how fast they come and what is written when: nothing that is computed depends on these
FREE_SETTINGS = {
    "name", "log", "runtime.out", "runtime.timeout", "train.max_time",
    "checkpoint.every_epochs", "checkpoint.every_steps", "checkpoint.keep",
    "data.num_workers", "data.pin_memory", "data.persistent_workers", "data.prefetch_factor",
    "data.root", "data.download", "data.scan", "data.timeout", "data.cache_dir",
}  # fmt: skip

_MEASURED = {"data.normalize"}  # on the training split, where nobody gives numbers


def is_among(key: str, keys: Collection[str]) -> bool:
    """Whether a key or the section that it is in is one of these."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in keys for length in range(1, len(parts) + 1))


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of nested sections by dotted key, in their order; a list is one setting."""
    return dict(_flatten(config, ""))


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def setting_text(value: Any) -> str:
    """Returns the value of a setting as YAML has it, in one line."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)


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
    autos = {key for key, default in defaults.items() if default == "auto"}
    return {key: pair for key, pair in changed.items() if not is_among(key, autos)}


def differing_settings(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns the settings, by key, that are not the same in all runs, with the value of each; `None` also where a run has none.

    A run of an older dlkit has the default for a key that is new. Statistics of the training split differ with the split, and are left
    out where seed or data differ, too.
    """
    keys = dict.fromkeys(key for settings in runs for key in settings)
    found = {}
    for key in keys:
        values = [settings[key] if key in settings else default_settings().get(key) for settings in runs]
        if any(value != values[0] or isinstance(value, bool) != isinstance(values[0], bool) for value in values):
            found[key] = values
    measured = {key for key in found if is_among(key, _MEASURED)}
    has_other_split = any(is_among(key, {"seed", "data"}) for key in found.keys() - measured)
    return {key: values for key, values in found.items() if not (has_other_split and key in measured)}
