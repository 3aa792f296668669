"""Settings in tables: short names of keys, and values as a config has them."""

from collections.abc import Iterable
from typing import Any

from dlkit.files import to_json

MOST_CHARACTERS = 24


def short_names(keys: Iterable[str]) -> list[str]:
    """Returns keys without their sections where that leaves them distinct; `optimizer.name` is `optimizer`."""
    keys = list(keys)
    short = [key.removesuffix(".name").split(".")[-1] for key in keys]
    return [name if short.count(name) == 1 else key for name, key in zip(short, keys, strict=True)]


def setting_text(value: Any) -> str:
    """Returns a value as a config has it, without blanks, and not too long."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = to_json(value).replace('"', "").replace(" ", "") if isinstance(value, list | dict) else str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."
