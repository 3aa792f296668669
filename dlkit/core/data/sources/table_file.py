"""A csv file as rows of texts. What parts its cells is found out, or set; a file that does not fit is refused by line."""

import csv as csv_format
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dlkit.core.data.sources.table_numbers import plain_number
from dlkit.errors import DataError

DELIMITERS = ("\t", "|", ";", ",")  # those that stand in headers by accident come last
_DELIMITER_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAMPLED_ROWS = 200
_NAMELESS = re.compile(r"(?:Unnamed: \d+)?")


@dataclass(frozen=True)
class Table:
    """The cells of a file, stripped, by row and column; `lines` are where each row ends."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    delimiter: str

    def column(self, name: str) -> list[str]:
        """Returns the cells of one column."""
        position = self.header.index(name)
        return [row[position] for row in self.rows]

    @property
    def delimiter_words(self) -> str:
        """Returns what parts the cells, in words."""
        return _DELIMITER_WORDS.get(self.delimiter, repr(self.delimiter))


def is_nameless(name: str) -> bool:
    """Whether a header's cell is none: empty, as pandas and R write the numbers of rows, or what pandas makes of that."""
    return _NAMELESS.fullmatch(name) is not None


def read_table(path: Path, delimiter: str) -> Table:
    """Returns all cells of a file; `auto` takes the delimiter that cuts all rows alike.

    Raises DataError for a missing file, no header, no rows, and rows of another length.
    """
    text = _read_text(path)
    found = find_delimiter(text) if delimiter == "auto" else delimiter
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    try:
        for row, line in _cut(text, found):
            rows.append(row)
            lines.append(line)
    except _Unreadable as error:
        raise DataError(f"{path}:{error}") from None
    return _checked_table(path, rows, lines, delimiter=found)


def find_delimiter(text: str) -> str:
    """Returns what cuts the first rows into equally many cells, the most if several do; else what cuts the header most."""
    widths = {delimiter: _widths(text, delimiter) for delimiter in DELIMITERS}
    even = [delimiter for delimiter, counts in widths.items() if counts[0] > 1 and {counts[0]} == set(counts)]
    return max(even or reversed(DELIMITERS), key=lambda delimiter: widths[delimiter][0])


def _widths(text: str, delimiter: str) -> list[int]:
    """Returns how many cells the first rows have, 0 for one that cannot be cut."""
    found = []
    try:
        for row, _ in islice(_cut(text, delimiter), _SAMPLED_ROWS):
            found.append(len(row))
    except _Unreadable:
        found.append(0)
    return found or [0]


class _Unreadable(Exception):
    """A line, and what the csv module says of it."""


def _cut(text: str, delimiter: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yields the rows that are not blank, and where each ends. Raises _Unreadable."""
    # blanks between a delimiter and a quote would make the quote part of the cell, and a delimiter inside it cut
    reader = csv_format.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for row in reader:
            cells = tuple(map(str.strip, row))
            if any(cells):
                yield cells, reader.line_num
    except csv_format.Error as error:
        raise _Unreadable(f"{reader.line_num}: {error}") from None


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: not a file; a csv file is needed")  # a device or a pipe may have no end
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # also a name that is too long, or with a zero in it
        raise DataError(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None


def _checked_table(path: Path, rows: list[tuple[str, ...]], lines: list[int], *, delimiter: str) -> Table:
    if not rows:
        raise DataError(f"{path}: the file is empty")
    header = rows[0]
    if len(header) == 1 and (other := next((mark for mark in DELIMITERS if mark in header[0]), None)):
        raise DataError(
            f"{path}:{lines[0]}: one column, {header[0]!r}; columns are parted by {delimiter!r}. "
            f"Did you mean delimiter: {other!r}?"
        )
    if all(plain_number(cell) is not None for cell in header):
        raise DataError(
            f"{path}:{lines[0]}: numbers where the names of the columns are expected; put a header line first"
        )
    doubled = next((name for name in header if header.count(name) > 1 and not is_nameless(name)), None)
    if doubled is not None:
        raise DataError(f"{path}:{lines[0]}: column {doubled!r} stands there twice")
    if len(rows) == 1:
        raise DataError(f"{path}: a header but no rows")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            way_out = f"; a cell with {delimiter!r} in it needs quotes" if len(row) > len(header) else ""
            raise DataError(f"{path}:{line}: {len(row)} cells where the header has {len(header)}{way_out}")
    return Table(path, header, tuple(rows[1:]), tuple(lines[1:]), delimiter)
