"""What the plots of `lr-plot` and `lr-find` share: the size of a plot, its axes with their labels, and wrapped lines."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from dlkit.schedules.canvas import Canvas, Scale, fit_scale

_GUTTER = 9  # characters in front of the axis
_ASCII = {"·": "-", "┤": "|", "└": "+", "┬": "+", "─": "-", "▲": "^", "⚠": "!", "…": "..."}


@dataclass(frozen=True)
class Look:
    """How to draw: characters across, rows of the main plot, plain ASCII, logarithmic rates."""

    width: int = 80
    height: int = 12
    is_ascii: bool = False
    is_log: bool = False

    @property
    def num_columns(self) -> int:
        """Characters across the plot itself."""
        return self.width - _GUTTER - 3

    def encode(self, lines: Iterable[str]) -> list[str]:
        """The lines, in ASCII if that is asked for."""
        return [self._as_ascii(line) for line in lines] if self.is_ascii else list(lines)

    @staticmethod
    def _as_ascii(line: str) -> str:
        for symbol, text in _ASCII.items():
            line = line.replace(symbol, text)
        return line.encode("ascii", "replace").decode()


def plot_series(
    series: Sequence[Sequence[float]],
    look: Look,
    *,
    rows: int | None = None,
    is_log: bool = False,
    from_zero: bool = True,
    letters: str = "*",
) -> list[str]:
    """Series behind one value axis; several are drawn with a letter each."""
    scale = fit_scale(series, is_log=is_log, from_zero=from_zero)
    canvas = Canvas(look.num_columns, rows or look.height, is_ascii=look.is_ascii or len(series) > 1)
    for values, letter in zip(series, letters, strict=True):
        canvas.draw(values, scale, letter=letter)
    return plot_lines(canvas, scale)


def plot_lines(canvas: Canvas, scale: Scale) -> list[str]:
    """A canvas behind its value axis, labelled at the top, at the bottom, and in the middle of a tall plot."""
    last = canvas.height - 1
    labels = {0: scale.value(1.0), last: scale.value(0.0)}
    if canvas.height >= 7:
        middle = canvas.height // 2
        labels[middle] = scale.value(1 - middle / last)
    texts = {row: rate_text(value) for row, value in labels.items()}
    return [f"{texts.get(row, ''):>{_GUTTER}} ┤{line}" for row, line in enumerate(canvas.lines())]


def axis_line(ticks: Iterable[int], num_columns: int) -> str:
    """The line below a plot, with ticks at these columns."""
    marked = set(ticks)
    return f"{'':{_GUTTER}} └" + "".join("┬" if column in marked else "─" for column in range(num_columns))


def label_line(name: str, labels: Mapping[int, str], num_columns: int) -> str:
    """Labels centred below their columns, within the plot; `name` stands in front."""
    text = [" "] * num_columns
    for column, label in labels.items():
        start = min(max(column - len(label) // 2, 0), num_columns - len(label))
        text[start : start + len(label)] = label
    return f"{name:>{_GUTTER}}  {''.join(text)}".rstrip()


def heading_line(text: str) -> str:
    """The heading of a smaller plot below the main one."""
    return f"{'':{_GUTTER}} {text}"


def wrapped(text: str, width: int) -> list[str]:
    """A remark in lines of at most `width`, indented from the second line on."""
    return wrap(text, width, initial_indent=" ", subsequent_indent="   ")


def rate_text(value: float) -> str:
    """A rate or a loss in few characters.

    >>> rate_text(0.1), rate_text(3e-4), rate_text(0.0123), rate_text(0)
    ('0.1', '3.0e-4', '0.0123', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"
