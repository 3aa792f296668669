"""The metrics that a plateau follows in a plot: a column of a metrics file, or a series written by hand."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dlkit.errors import DataError, UsageError


def load_column(path: Path, column: str) -> list[float]:
    """Read a column of a `.csv` or `.jsonl` file, in order; rows without a value are skipped.

    Raises UsageError for a missing file or column, DataError for a value that is no number or a column without any.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    rows = list(_read_json_lines(path) if path.suffix == ".jsonl" else _read_csv(path))
    known = dict.fromkeys(name for row in rows for name in row if name)
    if column not in known:
        raise UsageError(f"{path} has no column {column!r}; it has {', '.join(known) or 'none'}")
    values = [
        _read_number(row[column], f"{path}, row {index}") for index, row in enumerate(rows, 1) if _is_given(row, column)
    ]
    if not values:
        raise DataError(f"{path} has no value in the column {column!r}")
    return values


def _read_csv(path: Path) -> Iterable[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, skipinitialspace=True)


def _read_json_lines(path: Path) -> Iterable[Mapping[str, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number} is no JSON: {error}") from None
        if isinstance(row, dict):
            yield row


def _is_given(row: Mapping[str, Any], column: str) -> bool:
    return row.get(column) not in (None, "")


def _read_number(value: Any, place: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{place}: {value!r} is no number") from None


def read_series(text: str) -> list[float]:
    """Read values written by hand, `x*n` for n times x.

    >>> read_series("1 0.8 0.7*3 nan")
    [1.0, 0.8, 0.7, 0.7, 0.7, nan]
    """
    values: list[float] = []
    for word in text.replace(",", " ").split():
        value, star, times = word.partition("*")
        if len(times) > 6:
            raise UsageError(f"{word!r} in the series stands for too many values; the most is 999999 times")
        try:
            values += [float(value)] * (int(times) if star else 1)
        except ValueError:
            raise UsageError(f"{word!r} in the series is neither a number nor number*times, such as 0.7*5") from None
    if not values:
        raise UsageError("the series has no values; write for example '1 0.8 0.7*10'")
    return values
