"""Tables whose cells have types: JSON Lines, one object a line, and Parquet. Cells become the texts that a CSV file would hold."""

import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dlkit.core.data.sources.table_cells import LIST_MARK, Table
from dlkit.core.data.sources.table_text import read_text
from dlkit.errors import DataError, UsageError, first_line


def read_json_lines(path: Path) -> Table:
    """Returns the cells of a file with one object a line; a key that a line lacks is an empty cell.

    Raises DataError, naming the line, for one that is no object.
    """
    records, lines = [], []
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if text.strip():
            records.append(_record(text, f"{path}:{line}"))
            lines.append(line)
    header = tuple(dict.fromkeys(key for record in records for key in record))
    if not header:
        raise DataError(f"{path}: the file is empty")
    columns = {name: _texts(record.get(name) for record in records) for name in header}
    return _table(path, columns, lines, has_lines=True)


def _record(text: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(text, object_pairs_hook=lambda pairs: _without_doubles(pairs, place))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); one object a line is needed") from None
    if not isinstance(record, dict):
        raise DataError(f"{place}: a {type(record).__name__} where an object is needed, {{...}} on a line of its own")
    return record


def _without_doubles(pairs: list[tuple[str, Any]], place: str) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        doubled = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise DataError(f"{place}: column {doubled!r} stands there twice")
    return record


def read_parquet(path: Path) -> Table:
    """Returns the cells of a Parquet file. Raises DataError for a file that is none, UsageError without pyarrow."""
    if find_spec("pyarrow") is None:
        raise UsageError(f"{path}: Parquet needs pyarrow, not installed here: pip install 'dlkit[data]'")
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow if _is_plain(str(field.type))]
            found = file.read(columns=names, use_threads=False)
            unread = tuple(field.name for field in file.schema_arrow if field.name not in names)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({first_line(error)})") from None
    columns = {name: _texts(found.column(name).to_pylist()) for name in names}
    if not found.num_rows or not names:
        raise DataError(f"{path}: no {'rows' if names else 'columns of texts or numbers'}")
    return _table(path, columns, range(1, found.num_rows + 1), has_lines=False, unread=unread)


def _is_plain(kind: str) -> bool:
    """Whether a column of this Arrow type holds texts, numbers or times, or lists of them, and no bytes, maps or structures."""
    return not any(word in kind for word in ("binary", "struct", "map<", "union", "extension"))


def _table(
    path: Path,
    columns: dict[str, list[str] | None],
    lines: Sequence[int],
    *,
    has_lines: bool,
    unread: tuple[str, ...] = (),
) -> Table:
    readable = {name.strip(): cells for name, cells in columns.items() if cells is not None}
    unread += tuple(name for name, cells in columns.items() if cells is None)
    rows = tuple(zip(*readable.values(), strict=True))
    return Table(path, tuple(readable), rows, tuple(lines), has_lines=has_lines, unread=unread)


def _texts(values: Iterable[Any]) -> list[str] | None:
    """Returns values as the cells of a text file; None where one of them is a structure."""
    cells = []
    for value in values:
        cell = _cell(value)
        if cell is None:
            return None
        cells.append(cell)
    return cells


def _cell(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        parts = _texts(value)
        return None if parts is None else LIST_MARK + LIST_MARK.join(parts)
    return None if isinstance(value, dict | bytes) else str(value)
