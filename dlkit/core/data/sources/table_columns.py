"""The columns of a table: which are features, whether they hold numbers or texts, and what the network gets of them.

Cells stay texts until the kind of their column is decided: an identifier that passes through a float may become another.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.contract import TableColumn
from dlkit.core.data.sources.table_file import Table, is_nameless
from dlkit.core.data.sources.table_numbers import NumberFormat, is_plain_column, is_written_number
from dlkit.errors import DataError
from dlkit.suggestions import did_you_mean

MOST_TEXTS = 100
_SHOWN = 5


def pick_features(
    table: Table,
    targets: Sequence[str],
    features: Literal["auto"] | list[str],
    *,
    known: tuple[TableColumn, ...] | None = None,
) -> tuple[tuple[TableColumn, ...], list[str]]:
    """Returns the feature columns, those that a model takes if they are known, and notes.

    Raises ComponentError for columns that the table has not, or that cannot be learned from.
    """
    names, notes = _pick_names(table, targets, features)
    if known is not None:
        return known, []
    columns, more = _learn_columns(table, names, may_leave_out=features == "auto")
    return columns, notes + more


def _pick_names(
    table: Table, targets: Sequence[str], features: Literal["auto"] | list[str]
) -> tuple[list[str], list[str]]:
    if not targets:
        raise ComponentError("at least one column is needed", option="target")
    for name in targets:
        _check_column(table, name, "target")
    notes = []
    if features == "auto":
        columns = [name for name in table.header if name not in targets and not is_nameless(name)]
        if nameless := [number for number, name in enumerate(table.header, 1) if is_nameless(name)]:
            named = ", ".join(map(str, nameless))
            notes.append(
                f"column {named} has no name and is left out: it looks like an index, the row numbers that pandas writes; "
                "data.features can name the columns to learn from"
            )
    else:
        columns = [features] if isinstance(features, str) else list(features)
        for name in columns:
            _check_column(table, name, "features")
            if name in targets:
                raise ComponentError(f"{name!r} is the target; it cannot be a feature too", option="features")
    if not columns:
        raise DataError(f"{table.path}: no feature columns beside the target")
    return columns, notes


def _check_column(table: Table, name: str, option: str) -> None:
    if name not in table.header:
        hint = did_you_mean(str(name), table.header)
        raise ComponentError(
            f"{table.path} has no column {name!r}.{hint} It has: {', '.join(table.header)}", option=option
        )


def _learn_columns(
    table: Table, names: Sequence[str], *, may_leave_out: bool
) -> tuple[tuple[TableColumn, ...], list[str]]:
    """Returns the feature columns with the texts that they hold, and notes.

    A column of more than 100 different texts, names say, is left out if it may be. Raises ComponentError if not.
    """
    columns, notes, of_texts = [], [], []
    for name in names:
        cells = table.column(name)
        if not _holds_texts(cells):
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


def _holds_texts(cells: Sequence[str]) -> bool:
    """Whether most cells of a column are no numbers; else a cell that is none is a mistake."""
    if is_plain_column(cells):
        return False
    filled = [cell for cell in cells if cell]
    return 2 * sum(map(is_written_number, filled)) < len(filled)


def encode_columns(table: Table, columns: Sequence[TableColumn], numbers: NumberFormat) -> Tensor:
    """Returns the inputs of all rows, float64 (N, F). Raises DataError, naming line and column, for cells that do not fit."""
    for column in columns:
        if column.name not in table.header:
            raise DataError(f"{table.path}: no column {column.name!r}, which the training file has")
    parts = [
        read_numbers(table, [column.name], numbers) if column.texts is None else _one_hot(table, column, column.texts)
        for column in columns
    ]
    return torch.cat(parts, 1)


def _one_hot(table: Table, column: TableColumn, texts: tuple[str, ...]) -> Tensor:
    position_of = {text: position for position, text in enumerate(texts)}
    positions = []
    for cell, line in zip(table.column(column.name), table.lines, strict=True):
        if cell not in position_of:
            what = f"holds {cell!r}, which the training file lacks" if cell else "is empty"
            raise DataError(f"{table.path}:{line}: column {column.name!r} {what}; it holds {_listed(texts)}")
        positions.append(position_of[cell])
    return torch.eye(len(texts), dtype=torch.float64)[positions]


def _listed(texts: Sequence[str]) -> str:
    rest = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + rest


def read_numbers(table: Table, names: Sequence[str], numbers: NumberFormat) -> Tensor:
    """Returns columns of numbers, float64 (N, columns). Raises DataError, naming line and column, for any other cell."""
    return torch.stack([_read_column(table, name, numbers) for name in names], 1)


def _read_column(table: Table, name: str, numbers: NumberFormat) -> Tensor:
    cells = table.column(name)
    values = list(map(float, cells)) if numbers.is_plain and is_plain_column(cells) else []
    for cell, line in () if values else zip(cells, table.lines, strict=True):
        value = numbers.number(cell)
        if value is None:
            what = f"is not a number: {cell!r}" if cell else "is empty"
            raise DataError(f"{table.path}:{line}: column {name!r} {what}")
        values.append(value)
    tensor = torch.tensor(values, dtype=torch.float64)
    wrong = (~tensor.isfinite()).nonzero()
    if len(wrong):
        row = int(wrong[0, 0])
        raise DataError(f"{table.path}:{table.lines[row]}: column {name!r} is not finite: {cells[row]!r}")
    return tensor
