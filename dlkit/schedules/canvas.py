"""Curves drawn with characters: braille cells of two by four dots, or plain ASCII.

Each column of dots spans all the values that fall into it, from the least to the greatest, so a spike of a single step is
as visible in a million steps as in a hundred. With fewer values than columns each value is held, as a learning rate is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

# the bits of a braille cell by row and column of its dots
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True)
class Scale:
    """The axis of values from `low` to `high`, logarithmic if `is_log`. Values outside are drawn on the border."""

    low: float
    high: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """The position of a value between low (0) and high (1)."""
        if self.is_log:
            value = math.log(max(value, self.low))
            low, high = math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def value(self, share: float) -> float:
        """The value at a position between low (0) and high (1)."""
        if self.is_log:
            return math.exp(math.log(self.low) * (1 - share) + math.log(self.high) * share)
        return self.low + (self.high - self.low) * share


def fit_scale(series: Sequence[Sequence[float]], *, is_log: bool = False, from_zero: bool = True) -> Scale:
    """A scale for all finite values; with `from_zero` a linear one begins at 0 unless a value is negative."""
    values = [value for values in series for value in (min(values), max(values)) if math.isfinite(value)]
    if is_log:
        positive = [value for values in series for value in values if 0 < value < math.inf]
        low, high = (min(positive), max(positive)) if positive else (1.0, 10.0)
        return Scale(low, high if high > low else low * 10, is_log=True)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if from_zero and low >= 0:
        low = 0.0
    if high == low:
        high = low + (abs(low) or 1.0)
    return Scale(low, high)


@dataclass
class Canvas:
    """`width` by `height` characters, each of eight braille dots or, with `is_ascii`, one ASCII mark."""

    width: int
    height: int
    is_ascii: bool = False
    _cells: dict[tuple[int, int], int] = field(default_factory=dict)
    _letters: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def num_columns(self) -> int:
        """Columns of dots."""
        return self.width if self.is_ascii else 2 * self.width

    @property
    def num_rows(self) -> int:
        """Rows of dots."""
        return self.height if self.is_ascii else 4 * self.height

    def draw(self, values: Sequence[float], scale: Scale, *, letter: str = "*") -> None:
        """Draw a series from the left border to the right one. `letter` is the mark in ASCII."""
        before: tuple[int, int] | None = None
        for column in range(self.num_columns):
            shown = [value for value in self._values_at(column, values) if not math.isnan(value)]
            if not shown:
                before = None
                continue
            low, high = self._row(min(shown), scale), self._row(max(shown), scale)
            bottom, top = _joined(low, high, before)
            for row in range(bottom, top + 1):
                self._dot(column, row, letter)
            before = (low, high)

    def _values_at(self, column: int, values: Sequence[float]) -> Sequence[float]:
        first = column * len(values) // self.num_columns
        end = max((column + 1) * len(values) // self.num_columns, first + 1)
        return values[first:end]

    def _row(self, value: float, scale: Scale) -> int:
        return round(scale.share(value) * (self.num_rows - 1))

    def _dot(self, column: int, row: int, letter: str) -> None:
        row = self.num_rows - 1 - row
        if self.is_ascii:
            self._letters[row, column] = letter
            return
        cell = (row // 4, column // 2)
        self._cells[cell] = self._cells.get(cell, 0) | _BRAILLE[row % 4][column % 2]

    def lines(self) -> list[str]:
        """The rows of characters, top first, without trailing blanks."""
        return [
            "".join(self._character(row, column) for column in range(self.width)).rstrip() for row in range(self.height)
        ]

    def _character(self, row: int, column: int) -> str:
        if self.is_ascii:
            return self._letters.get((row, column), " ")
        bits = self._cells.get((row, column), 0)
        return chr(0x2800 + bits) if bits else " "


def _joined(low: int, high: int, before: tuple[int, int] | None) -> tuple[int, int]:
    """The rows of a column, extended to those of the column before it, so that the line has no gap."""
    if before is None:
        return low, high
    if low > before[1]:
        return before[1] + 1, high
    if high < before[0]:
        return low, before[0] - 1
    return low, high
