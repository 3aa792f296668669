"""The cells of a table as texts, whatever the form of its file, and what is wrong with them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dlkit.core.components import ComponentError
from dlkit.core.data.scan import summarize
from dlkit.errors import DataError
from dlkit.suggestions import did_you_mean

LIST_MARK = "\x1f"  # what ASCII has to part units; between the texts of a list, which JSON Lines and Parquet may hold
MOST_LISTED = 20
_NAMELESS = re.compile(r"(?:Unnamed: \d+)?")


@dataclass(frozen=True)
class Table:
    """The cells of a file, stripped, by row and column; `lines` are where each row ends, or their numbers where there are none.

    `delimiter` parts the cells of a text file. Columns of other things than texts and numbers are `unread`.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    delimiter: str | None = None
    has_lines: bool = True
    unread: tuple[str, ...] = ()

    def column(self, name: str) -> list[str]:
        """Returns the cells of one column."""
        position = self.header.index(name)
        return [row[position] for row in self.rows]

    def place(self, row: int) -> str:
        """Returns where a row stands, for messages."""
        return f"{self.path}:{self.lines[row]}" if self.has_lines else f"{self.path}, row {self.lines[row]}"

    def require(self, name: str, option: str) -> None:
        """Raise ComponentError at the option that names a column, where there is none."""
        if name in self.unread:
            raise ComponentError(
                f"column {name!r} of {self.path} holds neither texts nor numbers nor lists of them", option=option
            )
        if name not in self.header:
            hint = did_you_mean(str(name), self.header)
            raise ComponentError(
                f"{self.path} has no column {name!r}.{hint} It has: {', '.join(self.header)}", option=option
            )

    def taken(self, rows: Sequence[int]) -> "Table":
        """Returns the table of these rows alone."""
        return replace(self, rows=tuple(self.rows[row] for row in rows), lines=tuple(self.lines[row] for row in rows))


def is_nameless(name: str) -> bool:
    """Whether a header's cell is none: empty, as pandas and R write the numbers of rows, or what pandas makes of that."""
    return _NAMELESS.fullmatch(name) is not None


class CellProblems:
    """What is wrong with cells, collected so that all is told at once."""

    def __init__(self) -> None:
        self._found: list[tuple[str, int, int, str]] = []

    def add(self, table: Table, row: int, column: str, what: str) -> None:
        """Note what is wrong with a cell."""
        place = table.header.index(column)
        self._found.append((str(table.path), table.lines[row], place, f"{table.place(row)}: column {column!r} {what}"))

    def raise_any(self) -> None:
        """Raise one DataError for all, in the order of lines and columns; a cell is told of once."""
        first = {found[:3]: found[3] for found in reversed(self._found)}
        if first:
            raise DataError(summarize([first[key] for key in sorted(first)], what="cells", most=MOST_LISTED))
