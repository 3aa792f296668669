"""Tables as text whose cells are parted by a mark (CSV, TSV), which is found out, or set; what does not fit is refused by line."""

import csv as csv_format
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from dlkit.core.data.sources.table_cells import Table, is_nameless
from dlkit.core.data.sources.table_numbers import plain_number
from dlkit.errors import DataError

DELIMITERS = ("\t", "|", ";", ",")  # those that stand in headers by accident come last
_SAMPLED_ROWS = 200
_BINARY = {b"PK\x03\x04": "a workbook or an archive", b"\xd0\xcf\x11\xe0": "a workbook", b"PAR1": "a Parquet file"}


def read_delimited(path: Path, delimiter: str) -> Table:
    """Returns all cells of a text file; `auto` takes the delimiter that cuts all rows alike.

    Raises DataError for no header, no rows, and rows of another length.
    """
    text = read_text(path)
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


def read_text(path: Path) -> str:
    """Returns the text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one, as Excel's "Unicode text" is."""
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        kind = next((words for start, words in _BINARY.items() if content.startswith(start)), None)
        way_out = f"it looks like {kind}" if kind else "save it as UTF-8"
        raise DataError(f"{path}: not UTF-8 text; {way_out}") from None
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None


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
