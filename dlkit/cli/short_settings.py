"""Settings in tables of the terminal: short names of keys, and short values."""

from collections.abc import Iterable
from typing import Any

from dlkit.run_folders import setting_text

MOST_CHARACTERS = 24


def short_names(keys: Iterable[str]) -> list[str]:
    """Returns keys without their sections where that leaves them distinct; `optimizer.name` is `optimizer`."""
    keys = list(keys)
    short = [key.removesuffix(".name").split(".")[-1] for key in keys]
    return [name if short.count(name) == 1 else key for name, key in zip(short, keys, strict=True)]


def short_setting(value: Any) -> str:
    """Returns a value for a narrow column: `-` for none, lists without blanks and quotes, and cut off where it is long."""
    text = "-" if value is None else setting_text(value)
    if isinstance(value, list | dict):
        text = text.replace('"', "").replace(" ", "")
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."
