"""Checks of a curve's options. ValueError says which option is wrong, what would work and what was given."""

from collections.abc import Collection
from math import isfinite
from typing import Any


def check_whole(option: str, value: Any, *, least: int) -> None:
    """Raise ValueError unless the value is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{option} must be an integer of at least {least}, got {value!r}")


def check_number(
    option: str, value: Any, *, least: float | None = None, above: float | None = None, most: float | None = None
) -> None:
    """Raise ValueError unless the value is a finite number within the limits."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    wrong = not is_number or (
        (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
    )
    if wrong:
        raise ValueError(f"{option} must be a number{_limits(least, above, most)}, got {value!r}")


def _limits(least: float | None, above: float | None, most: float | None) -> str:
    low = f" of at least {least:g}" if least is not None else f" above {above:g}" if above is not None else ""
    if most is None:
        return low
    return f"{low} and at most {most:g}" if low else f" of at most {most:g}"


def check_choice(option: str, value: Any, choices: Collection[str]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{option} must be {' or '.join(map(repr, choices))}, got {value!r}")


def check_flag(option: str, value: Any) -> None:
    """Raise ValueError unless the value is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{option} must be true or false, got {value!r}")
