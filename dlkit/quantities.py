"""Quantities with a unit, as configs and command lines write them: counts, lengths of training and durations."""

import re
from dataclasses import dataclass

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
COUNT_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(%|st|ep)")


def counted(number: int, what: str) -> str:
    """A number with what it counts, in the plural unless it is one.

    >>> counted(1, "file"), counted(1200, "class")
    ('1 file', '1,200 classes')
    """
    plural = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{plural}"


def parse_count(text: str) -> float:
    """Read `5000`, `10k`, `1.5M`, `2G` or `1T`. Raises ValueError.

    >>> parse_count("1.5M")
    1500000.0
    """
    unit = text[-1:].lower() if text[-1:].lower() in COUNT_UNITS else ""
    return float(text.removesuffix(text[-1:]) if unit else text) * COUNT_UNITS[unit]


def parse_duration_s(text: str | int | float) -> float:
    """Seconds of a duration such as `90s`, `45m` or `1h30m`; a bare number is seconds. Raises ValueError.

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
    """A stretch of training: a share of all steps (`5%`), steps (`500st`) or epochs (`2ep`)."""

    amount: float
    unit: str

    def to_steps(self, *, total_steps: int, steps_per_epoch: int) -> int:
        """The stretch in optimizer steps, rounded to the nearest; it may be longer than the run."""
        return round(self.amount * {"%": total_steps / 100, "st": 1, "ep": steps_per_epoch}[self.unit])


def parse_length(text: str | int) -> Length:
    """Read `5%`, `500st`, `2ep` or a bare number of steps. Raises ValueError.

    >>> parse_length("5%").to_steps(total_steps=1000, steps_per_epoch=100)
    50
    """
    match = _LENGTH.fullmatch(f"{text}st" if isinstance(text, int) else text.strip())
    if not match:
        raise ValueError(f"expected a share (5%), steps (500st) or epochs (2ep), got {text!r}")
    return Length(float(match[1]), match[2])


def parse_warmup(text: str | int) -> Length:
    """Read the length of a warm-up. Raises ValueError if it is no length, or more than the whole run."""
    length = parse_length(text)
    if length.unit == "%" and length.amount > 100:
        raise ValueError(f"expected at most 100%, got {text!r}")
    return length


def bytes_text(size: int) -> str:
    """Bytes as people read them, in units of 1024.

    >>> bytes_text(47_000_000)
    '44.8 MiB'
    """
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, "KiB"
    if value >= 1024:
        value, unit = value / 1024, "MiB"
    if value >= 1024:
        value, unit = value / 1024, "GiB"
    return f"{value:.1f} {unit}"


def duration_text(seconds: float) -> str:
    """A duration as people read it.

    >>> duration_text(14.32), duration_text(125), duration_text(12000)
    ('14.3 s', '2 min 05 s', '3 h 20 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
