"""Sizes and shapes as plain tuples: read, written, and the error for those that are impossible."""

from collections.abc import Sequence
from typing import TypeVar

from dlkit.errors import UsageError

Number = TypeVar("Number", int, float)
Size = tuple[int, ...]  # lengths of the spatial axes: (224, 320)
Shape = tuple[int, ...]  # one sample without the batch, channels first: (3, 224, 320)


class ShapeError(UsageError):
    """A layer that cannot take this input, or options that torch would refuse. The message says what would work."""


def parse_numbers(text: str, *, what: str) -> tuple[int, ...]:
    """Integers joined by `,` or `x`: `3,5`, `3x224x224`, `7`. Raises ShapeError for anything else.

    >>> parse_numbers("3x224x224", what="--in")
    (3, 224, 224)
    """
    parts = text.strip().lower().replace("x", ",").strip("()[] ").split(",")
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise ShapeError(
            f"{what} {text!r} is not a size; write 224, 224,320 (height,width) or 3x224x224 (channels first)"
        ) from None


def per_axis(numbers: Sequence[Number], dims: int, *, what: str) -> tuple[Number, ...]:
    """One number per spatial axis, from one for all axes or one for each. Raises ShapeError for any other count.

    >>> per_axis((3,), 2, what="kernel_size")
    (3, 3)
    """
    if len(numbers) == 1:
        return tuple(numbers) * dims
    if len(numbers) != dims:
        raise ShapeError(f"{what} has {len(numbers)} numbers for {dims} spatial axes; give one for all or {dims}")
    return tuple(numbers)


def size_text(size: Sequence[int]) -> str:
    """A size or shape as people write it.

    >>> size_text((64, 112, 112))
    '64x112x112'
    """
    return "x".join(map(str, size)) if size else "-"


def tuple_text(numbers: Sequence[int | str]) -> str:
    """An argument of torch: one number when all axes agree, else a tuple.

    >>> tuple_text((3, 3)), tuple_text((3, 5))
    ('3', '(3, 5)')
    """
    return str(numbers[0]) if len(set(numbers)) == 1 else f"({', '.join(map(str, numbers))})"


def multiples_text(number: int, divisor: int) -> str:
    """The nearest multiples of a divisor below and above a number, for messages.

    >>> multiples_text(10, 3), multiples_text(2, 3)
    ('9 or 12', '3')
    """
    below = number // divisor * divisor
    return " or ".join(str(multiple) for multiple in (below, below + divisor) if multiple)


def count_text(number: int | float) -> str:
    """A count with thousands separators, and a short form behind it from a million on.

    >>> count_text(4089184256)
    '4,089,184,256 (4.09 G)'
    """
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= scale:
            return f"{number:,} ({number / scale:.2f} {unit})"
    return f"{number:,}"


def short_count(number: int | float) -> str:
    """A count in at most six characters.

    >>> short_count(118013952)
    '118 M'
    """
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}" if number / scale < 999.5 else f"{number / scale:.0f} {unit}"
    return f"{number:g}"
