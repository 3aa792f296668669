"""Sizes and shapes as plain tuples, how they are read and written, and the error of geometry that cannot be."""

from collections.abc import Sequence

from dlkit.errors import UsageError

Size = tuple[int, ...]  # extents of the spatial axes: (224, 320)
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


def spread(numbers: Sequence[int], dims: int, *, what: str) -> Size:
    """One number for all axes, or one for each.

    >>> spread((3,), 2, what="kernel_size")
    (3, 3)
    """
    if len(numbers) == 1:
        return tuple(numbers) * dims
    if len(numbers) != dims:
        raise ShapeError(f"{what} has {len(numbers)} numbers for {dims} spatial axes; give one for all or {dims}")
    return tuple(numbers)


def size_text(size: Sequence[int]) -> str:
    """Extents as people write them.

    >>> size_text((64, 112, 112))
    '64x112x112'
    """
    return "x".join(map(str, size)) if size else "-"


def tuple_text(numbers: Sequence[int]) -> str:
    """A torch argument: one number when all axes agree, else a tuple.

    >>> tuple_text((3, 3)), tuple_text((3, 5))
    ('3', '(3, 5)')
    """
    return str(numbers[0]) if len(set(numbers)) == 1 else f"({', '.join(map(str, numbers))})"


def count_text(number: int | float) -> str:
    """A count with thousands separators, and its short form when it is long.

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
