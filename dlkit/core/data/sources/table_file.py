"""Files of rows: read by the ending of their names, with what is not plain about them found out or set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.components import ComponentError
from dlkit.core.data.sources.table_cells import Table
from dlkit.core.data.sources.table_numbers import FORMATS, NumberFormat, find_number_format
from dlkit.core.data.sources.table_records import read_json_lines, read_parquet
from dlkit.core.data.sources.table_text import read_delimited
from dlkit.errors import DataError, UsageError

RECORDS = {".jsonl": read_json_lines, ".ndjson": read_json_lines, ".parquet": read_parquet, ".pq": read_parquet}
DELIMITER_OF_ENDING = {".tsv": "\t", ".tab": "\t"}
ENDINGS = frozenset({".csv", ".txt", *DELIMITER_OF_ENDING, *RECORDS})
_DELIMITER_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_DECIMALS = ("auto", ".", ",")
_THOUSANDS = {"auto": None, "none": "", ",": ",", ".": ".", " ": " ", "'": "'"}


def is_table_file(path: Path) -> bool:
    """Whether a name is that of a table."""
    return path.suffix.lower() in ENDINGS


@dataclass(frozen=True)
class Writing:
    """How cells and numbers of a table are parted; `auto` is found out from each file."""

    delimiter: str = "auto"
    decimal: str = "auto"
    thousands: str = "auto"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Writing":
        """Returns what the options of a table say. Raises UsageError for what they cannot be."""
        writing = cls(*(options.get(name, "auto") for name in ("delimiter", "decimal", "thousands")))
        try:
            writing.check()
        except ComponentError as error:
            raise UsageError(f"data.{error.option}: {error}") from None
        return writing

    def check(self) -> None:
        """Raise ComponentError at the option that is wrong."""
        if self.delimiter != "auto" and (not isinstance(self.delimiter, str) or len(self.delimiter) != 1):
            raise ComponentError(f"expected auto or one character, got {self.delimiter!r}", option="delimiter")
        if self.decimal not in _DECIMALS:
            raise ComponentError(f"expected auto, '.' or ',', got {self.decimal!r}", option="decimal")
        if self.thousands not in _THOUSANDS:
            listed = ", ".join(map(repr, _THOUSANDS))
            raise ComponentError(f"expected one of {listed}, got {self.thousands!r}", option="thousands")
        if self.decimal == self.thousands != "auto":
            raise ComponentError(f"{self.thousands!r} stands before the fraction already", option="thousands")

    def open(self, path: Path) -> Table:
        """Returns the cells of a file: JSON Lines, Parquet, or text. Raises DataError for one that is missing or broken."""
        ending = path.suffix.lower()
        try:
            path.stat()
            if not path.is_file():
                raise DataError(f"{path}: not a file; a table is needed")  # a device or a pipe may have no end
        except (OSError, ValueError) as error:  # it is not there, or its name is too long or has a zero in it
            raise DataError(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
        if ending in RECORDS:
            return RECORDS[ending](path)
        if ending == ".json":
            raise DataError(f"{path}: one JSON text; write JSON Lines, an object on each line, and call it .jsonl")
        guess = DELIMITER_OF_ENDING.get(ending, "auto")
        return read_delimited(path, guess if self.delimiter == "auto" else self.delimiter)

    def numbers_in(self, table: Table, names: Sequence[str]) -> NumberFormat:
        """Returns how numbers are written in these columns. Raises DataError, naming the file, if that is not plain."""
        mark = _THOUSANDS[self.thousands]
        allowed = [
            entry
            for entry in FORMATS
            if self.decimal in ("auto", entry.decimal) and (mark is None or mark == entry.thousands)
        ]
        columns = [table.column(name) for name in names if name in table.header]
        try:
            return find_number_format(columns, allowed=allowed, comma_parts=table.delimiter == ",")
        except DataError as error:
            raise DataError(f"{table.path}: {error}") from None

    def notes_on(self, table: Table, numbers: NumberFormat) -> list[str]:
        """Returns what was found out and is not plain."""
        notes = []
        expected = (None, ",", DELIMITER_OF_ENDING.get(table.path.suffix.lower()))
        if self.delimiter == "auto" and table.delimiter not in expected:
            words = _DELIMITER_WORDS.get(table.delimiter or "", repr(table.delimiter))
            notes.append(f"cells are parted by {words}; data.delimiter sets it otherwise")
        if "auto" in (self.decimal, self.thousands) and not numbers.is_plain:
            notes.append(f"numbers are read with {numbers.words}; data.decimal and data.thousands set it otherwise")
        if table.unread:
            notes.append(f"columns that hold neither texts nor numbers are left out: {', '.join(table.unread)}")
        return notes
