"""Drawings of windows and receptive fields in plain characters."""

from collections.abc import Mapping, Sequence

from dlkit.shapes.taps import Taps

WIDTH = 64


def draw_windows(taps: Taps, *, size: int, out: int, padding: tuple[int, int]) -> list[str]:
    """The first and last windows over an axis, and the input positions that no window reads.

    `p` is padding, `.` input, `#` a tap, `!` never read; a long axis is cut in the middle.
    """
    columns = _columns(-padding[0], size + padding[1])
    inside = range(size)
    read = {place for index in range(out) for place in taps.at(index)}
    lines = [f"{'input':>9}  {_row(columns, dict.fromkeys(inside, '.'), 'p')}"]
    for index in sorted({*range(min(3, out)), *range(max(0, out - 2), out)}):
        lines.append(f"{f'out {index}':>9}  {_row(columns, dict.fromkeys(taps.at(index), '#'))}".rstrip())
    lost = _row(columns, {place: "!" for place in inside if place not in read})
    return [*lines, f"{'not read':>9}  {lost}".rstrip()] if "!" in lost else lines


def _columns(first: int, last: int) -> list[int | None]:
    """The positions to draw; None stands for the positions that are left out."""
    if last - first <= WIDTH:
        return list(range(first, last))
    side = (WIDTH - 3) // 2
    return [*range(first, first + side), None, *range(last - side, last)]


def _row(columns: Sequence[int | None], marks: Mapping[int, str], other: str = " ") -> str:
    return "".join(" ~ " if place is None else marks.get(place, other) for place in columns)


def draw_fields(fields: Sequence[tuple[str, int | None]], *, size: int) -> list[str]:
    """One centred bar per layer, as long as its receptive field in an image of `size`; None is the whole image.

    The bar of a field larger than the image ends in arrows.
    """
    width = 40
    lines = []
    for name, field in fields:
        seen = size if field is None else field
        length = max(1, round(width * min(seen, size) / size))
        bar = "<" + "=" * (width - 2) + ">" if seen > size else "=" * length
        lines.append(f"{name[:22]:<22} |{bar.center(width)}| {'all' if field is None else seen}")
    return lines
