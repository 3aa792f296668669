"""The columns of a table: which are features, whether they hold numbers or texts, and what the network gets of them.

Cells stay texts until the kind of their column is decided: an identifier that passes through a float may become another.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.contract import TableColumn
from dlkit.core.data.sources.table_cells import CellProblems, Table, is_nameless
from dlkit.core.data.sources.table_numbers import NumberFormat, is_plain_column, is_written_number
from dlkit.errors import DataError

MOST_TEXTS = 100
MISSING = frozenset({"", "nan", "na", "n/a", "null", "none"})  # what stands in columns of numbers where there is none
_SHOWN = 5


def pick_features(
    table: Table,
    features: Literal["auto"] | list[str],
    *,
    targets: Sequence[str],
    others: Sequence[str] = (),
    known: tuple[TableColumn, ...] | None = None,
    may_miss: bool = False,
) -> tuple[tuple[TableColumn, ...], list[str]]:
    """Returns the feature columns, those that a model takes if they are known, and notes.

    `others` are columns that serve something else. With `may_miss`, cells may be missing. Raises ComponentError for columns that the
    table has not, or that cannot be learned from.
    """
    names, notes = _pick_names(table, features, targets, others)
    if known is not None:
        return known, []
    columns, more = _learn_columns(table, names, may_leave_out=features == "auto", may_miss=may_miss)
    return columns, notes + more


def _pick_names(
    table: Table, features: Literal["auto"] | list[str], targets: Sequence[str], others: Sequence[str]
) -> tuple[list[str], list[str]]:
    notes = []
    if features == "auto":
        columns = [name for name in table.header if name not in (*targets, *others) and not is_nameless(name)]
        if nameless := [number for number, name in enumerate(table.header, 1) if is_nameless(name)]:
            named = ", ".join(map(str, nameless))
            notes.append(
                f"column {named} has no name and is left out: it looks like an index, the row numbers that pandas writes; "
                "data.features can name the columns to learn from"
            )
    else:
        columns = [features] if isinstance(features, str) else list(features)
        for name in columns:
            table.require(name, "features")
            if name in targets:
                raise ComponentError(f"{name!r} is the target; it cannot be a feature too", option="features")
    if not columns:
        raise DataError(f"{table.path}: no feature columns beside the target")
    return columns, notes


def _learn_columns(
    table: Table, names: Sequence[str], *, may_leave_out: bool, may_miss: bool
) -> tuple[tuple[TableColumn, ...], list[str]]:
    """Returns the feature columns with the texts that they hold, and notes.

    A column of more than 100 different texts, names say, is left out if it may be. Raises ComponentError if not.
    """
    columns, notes, of_texts = [], [], []
    for name in names:
        cells = table.column(name)
        if not _holds_texts(cells, may_miss=may_miss):
            columns.append(TableColumn(name))
            continue
        texts = tuple(sorted(set(cells) - {""}))
        if len(texts) <= MOST_TEXTS:
            columns.append(TableColumn(name, texts))
            of_texts.append(f"{name} ({len(texts)})")
            continue
        what = f"column {name!r} holds {len(texts)} different texts"
        if not may_leave_out:
            raise ComponentError(f"{what}; at most {MOST_TEXTS} can be told apart, so leave it out", option="features")
        notes.append(f"{what} and is left out; at most {MOST_TEXTS} can be told apart")
    if of_texts:
        notes.append(f"columns of texts become one input for each of their texts: {', '.join(of_texts)}")
    if not columns:
        raise DataError(f"{table.path}: no feature columns that can be learned from")
    return tuple(columns), notes


def _holds_texts(cells: Sequence[str], *, may_miss: bool) -> bool:
    """Whether most cells of a column are no numbers; else a cell that is none is a mistake."""
    if is_plain_column(cells):
        return False
    filled = [cell for cell in cells if cell and not (may_miss and cell.casefold() in MISSING)]
    return 2 * sum(map(is_written_number, filled)) < len(filled)


def encode_columns(
    table: Table,
    columns: Sequence[TableColumn],
    numbers: NumberFormat,
    problems: CellProblems,
    *,
    may_miss: bool = False,
) -> Tensor:
    """Returns the inputs of all rows, float64 (N, F).

    A cell that is missing becomes what its column is filled with, or stays NaN if that `may_miss`. Raises DataError for columns that
    are missing.
    """
    for column in columns:
        if column.name not in table.header:
            raise DataError(f"{table.path}: no column {column.name!r}, which the training file has")
    return torch.cat([_encode(table, column, numbers, problems, may_miss=may_miss) for column in columns], 1)


def _encode(
    table: Table, column: TableColumn, numbers: NumberFormat, problems: CellProblems, *, may_miss: bool
) -> Tensor:
    may_miss = may_miss or column.fill is not None
    if column.texts is None:
        values = _read_column(table, column.name, numbers, problems, may_miss=may_miss)[:, None]
    else:
        values = _one_hot(table, column, column.texts, problems, may_miss=may_miss)
    if column.fill is None:
        return values
    return torch.where(values.isnan(), torch.tensor(column.fill, dtype=torch.float64), values)


def _one_hot(
    table: Table, column: TableColumn, texts: tuple[str, ...], problems: CellProblems, *, may_miss: bool
) -> Tensor:
    position_of = {text: position for position, text in enumerate(texts)}
    # one row more than texts, for cells that are missing
    rows = torch.cat([torch.eye(len(texts), dtype=torch.float64), torch.full((1, len(texts)), torch.nan)])
    positions = [position_of.get(cell, len(texts)) for cell in table.column(column.name)]
    for row, position in enumerate(positions):
        if position == len(texts):
            cell = table.rows[row][table.header.index(column.name)]
            if cell or not may_miss:
                what = f"holds {cell!r}, which the training file lacks" if cell else "is empty"
                problems.add(table, row, column.name, f"{what}; it holds {_listed(texts)}")
    return rows[positions]


def _listed(texts: Sequence[str]) -> str:
    rest = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + rest


def read_numbers(table: Table, names: Sequence[str], numbers: NumberFormat, problems: CellProblems) -> Tensor:
    """Returns columns of numbers, float64 (N, columns)."""
    return torch.stack([_read_column(table, name, numbers, problems) for name in names], 1)


def _read_column(
    table: Table, name: str, numbers: NumberFormat, problems: CellProblems, *, may_miss: bool = False
) -> Tensor:
    cells = table.column(name)
    if numbers.is_plain and is_plain_column(cells):
        values = list(map(float, cells))
    else:
        values = [math.nan if value is None else value for value in map(numbers.number, cells)]
    tensor = torch.tensor(values, dtype=torch.float64)
    for row in (~tensor.isfinite()).nonzero()[:, 0].tolist():
        cell = cells[row]
        if may_miss and cell.casefold() in MISSING:
            continue
        kind = "not finite" if numbers.number(cell) is not None else "not a number"
        problems.add(table, row, name, f"is {kind}: {cell!r}" if cell else "is empty")
    return tensor
