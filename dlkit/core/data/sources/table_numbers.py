"""How numbers are written in a table: `1,234.5`, `1.234,5` or `1 234,5`. Found out from the cells, or set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from dlkit.errors import DataError

Thousands = Literal["", ",", ".", " ", "'"]
_SPELLINGS = {"": "", ",": ",", ".": r"\.", " ": " \u00a0\u202f", "'": "'\u2019"}  # characters that look alike
_WORDS = {",": "a comma", ".": "a point", " ": "a space", "'": "an apostrophe"}
_LOCAL = re.compile("[+-]?[0-9.,][0-9.,'\u2019 \u00a0\u202f]*(?:[eE][+-]?[0-9]+)?")
MOST_LOOKED_AT = 100_000


@dataclass(frozen=True)
class NumberFormat:
    """What stands before the fraction, and what parts groups of three digits, if anything does."""

    decimal: Literal[".", ","] = "."
    thousands: Thousands = ""

    def number(self, cell: str) -> float | None:
        """Returns the number that a cell holds, None where it holds none; `nan` and `inf` are numbers."""
        if not self.is_plain:
            if self._pattern.fullmatch(cell):
                return float(self._groups.sub("", cell).replace(",", "."))
            if "." in cell or "," in cell:
                return None
        return plain_number(cell)

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as Python writes them."""
        return self == PLAIN

    @property
    def words(self) -> str:
        """Returns the format in words."""
        parts = [f"{_WORDS[self.decimal]} before the fraction"]
        parts += [f"{_WORDS[self.thousands]} between thousands"] if self.thousands else []
        return " and ".join(parts)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        point = re.escape(self.decimal)
        grouped = rf"|[1-9][0-9]{{0,2}}(?:[{_SPELLINGS[self.thousands]}][0-9]{{3}})+" if self.thousands else ""
        return re.compile(rf"[+-]?(?:(?:[0-9]+{grouped})(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?")

    @cached_property
    def _groups(self) -> re.Pattern[str]:
        return re.compile(f"[{_SPELLINGS[self.thousands]}]" if self.thousands else r"(?!)")


PLAIN = NumberFormat()
_MARKS: tuple[Thousands, ...] = ("", ",", ".", " ", "'")
_ENGLISH = NumberFormat(".", ",")
FORMATS = tuple(NumberFormat(decimal, mark) for decimal in (".", ",") for mark in _MARKS if mark != decimal)


def plain_number(cell: str) -> float | None:
    """Returns a number as Python reads it, but no `1_000`, which is a name."""
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return None


def find_number_format(
    columns: Sequence[Sequence[str]], *, allowed: Sequence[NumberFormat], comma_parts: bool
) -> NumberFormat:
    """Returns the one of the allowed formats in which all columns of numbers can be read.

    Raises DataError where numbers are written in more than one way, and where they could be read in two. But `1,234` is 1234
    in a file whose cells are parted by commas (`comma_parts`), since who writes decimal commas takes another delimiter.
    """
    unlike = [cell for column in columns if not is_plain_column(column) for cell in _written_numbers(column)]
    if PLAIN in allowed and all(plain_number(cell) is not None for cell in unlike):
        return PLAIN
    cells = [cell for column in columns for cell in _written_numbers(column)]
    left = _narrow(allowed, cells)
    if comma_parts and PLAIN not in left and _ENGLISH in left:
        return _ENGLISH
    for cell in cells:
        values = {value for entry in left if (value := entry.number(cell)) is not None}
        if len(values) > 1:
            listed = " or ".join(f"{value:.12g}" for value in sorted(values))
            raise DataError(f"{cell!r} may be {listed}; set data.decimal to '.' or ','")
    return left[0]


def is_plain_column(cells: Sequence[str]) -> bool:
    """Whether Python reads all cells as numbers."""
    try:
        list(map(float, cells))
    except ValueError:
        return False
    return not any("_" in cell for cell in cells)


def is_written_number(cell: str) -> bool:
    """Whether a cell is a number in some format."""
    if plain_number(cell) is not None:
        return True
    return _LOCAL.fullmatch(cell) is not None and any(entry.number(cell) is not None for entry in FORMATS)


def _written_numbers(cells: Sequence[str]) -> list[str]:
    """Returns the different cells of a column that look like numbers in some format, if most of the column does."""
    different = list(dict.fromkeys(cell for cell in cells if cell))[:MOST_LOOKED_AT]
    found = [cell for cell in different if is_written_number(cell)]
    return found if 2 * len(found) >= len(different) else []


def _narrow(allowed: Sequence[NumberFormat], cells: Sequence[str]) -> list[NumberFormat]:
    """Returns the formats that take all cells but those which none takes; these are named where their column is read."""
    left, last = list(allowed), ""
    for cell in cells:
        kept = [entry for entry in left if entry.number(cell) is not None]
        if not kept and any(entry.number(cell) is not None for entry in allowed):
            raise DataError(
                f"numbers are written in more than one way, {last!r} and {cell!r}; set data.decimal and data.thousands"
            )
        if kept and len(kept) < len(left):
            left, last = kept, cell
    return left
