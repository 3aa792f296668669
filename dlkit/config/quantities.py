"""Quantities that a config writes with their unit: warm-up lengths and durations."""

import re
from dataclasses import dataclass

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(%|st|ep)")


def parse_duration_s(text: str | int | float) -> float:
    """Seconds of a duration such as `90s`, `45m` or `1h30m`; a bare number is seconds.

    >>> parse_duration_s("1h30m")
    5400.0
    """
    if isinstance(text, int | float):
        seconds = float(text)
    else:
        match = _DURATION.fullmatch(text.strip())
        if not match or not any(match.groups()):
            raise ValueError(f"expected a duration such as 90s, 45m or 1h30m, got {text!r}")
        days, hours, minutes, rest = (float(part or 0) for part in match.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if seconds <= 0:
        raise ValueError(f"expected a duration above 0, got {text!r}")
    return seconds


@dataclass(frozen=True)
class Length:
    """A stretch of training: a share of all steps (`5%`), steps (`500st` or a bare integer), or epochs (`2ep`)."""

    amount: float
    unit: str

    def to_steps(self, *, total_steps: int, steps_per_epoch: int) -> int:
        """The stretch in optimizer steps, rounded to the nearest, never more than the whole run."""
        scale = {"%": total_steps / 100, "st": 1, "ep": steps_per_epoch}[self.unit]
        return min(round(self.amount * scale), total_steps)


def parse_length(text: str | int) -> Length:
    """Read `5%`, `500st`, `2ep` or a bare number of steps.

    >>> parse_length("5%").to_steps(total_steps=1000, steps_per_epoch=100)
    50
    """
    if isinstance(text, int):
        text = f"{text}st"
    match = _LENGTH.fullmatch(text.strip())
    if not match:
        raise ValueError(f"expected a share (5%), steps (500st) or epochs (2ep), got {text!r}")
    length = Length(float(match[1]), match[2])
    if length.unit == "%" and length.amount > 100:
        raise ValueError(f"expected at most 100%, got {text!r}")
    return length
