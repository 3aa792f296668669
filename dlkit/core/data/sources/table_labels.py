"""Several labels of a row: a column of 0 and 1 for each, or one column that lists them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.sources.table_cells import LIST_MARK, CellProblems, Table
from dlkit.core.data.sources.table_numbers import NumberFormat
from dlkit.errors import DataError
from dlkit.tasks import TaskName

_WORDS = {"true": 1.0, "false": 0.0}


def pick_separator(table: Table, names: Sequence[str], separator: str | None, asked: TaskName | None) -> str | None:
    """Returns what parts the labels in the cells of the one target column; None where a cell holds no several ones.

    Raises ComponentError where the option cannot be.
    """
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise ComponentError(f"expected the mark between labels, such as '|', got {separator!r}", option="separator")
    if separator is not None and (len(names) > 1 or asked not in (None, "multilabel")):
        what = f"with {len(names)} target columns" if len(names) > 1 else f"with task: {asked}"
        raise ComponentError(
            f"it parts the labels in the cells of one column; {what} there are none", option="separator"
        )
    if len(names) == 1 and any(cell.startswith(LIST_MARK) for cell in table.column(names[0])):
        return LIST_MARK
    if separator is None and len(names) == 1 and asked == "multilabel" and not _is_binary(table, names[0]):
        raise ComponentError(
            f"task: multilabel needs columns of 0 and 1, or data.separator, the mark between the labels in {names[0]!r}",
            option="target",
        )
    return separator


def _is_binary(table: Table, name: str) -> bool:
    return are_bits(table, [name], NumberFormat())


def are_bits(table: Table, names: Sequence[str], numbers: NumberFormat) -> bool:
    """Whether all cells of these columns are 0 or 1, true or false, or empty."""
    return all(_bit(cell, numbers) is not None for name in names for cell in set(table.column(name)) if cell)


def _bit(cell: str, numbers: NumberFormat) -> float | None:
    value = _WORDS.get(cell.casefold(), numbers.number(cell))
    return value if value in (0.0, 1.0) else None


def read_bits(table: Table, names: Sequence[str], numbers: NumberFormat, problems: CellProblems) -> Tensor:
    """Returns columns of 0 and 1, uint8 (N, columns)."""
    return torch.stack([_read_bits(table, name, numbers, problems) for name in names], 1)


def _read_bits(table: Table, name: str, numbers: NumberFormat, problems: CellProblems) -> Tensor:
    cells = table.column(name)
    bits = [_bit(cell, numbers) for cell in cells]
    for row, bit in enumerate(bits):
        if bit is None:
            what = f"holds {cells[row]!r}; a label is 0 or 1. For numbers set task: regression"
            problems.add(table, row, name, what if cells[row] else "is empty")
    return torch.tensor([bit or 0 for bit in bits], dtype=torch.uint8)


def learn_labels(table: Table, name: str, separator: str, problems: CellProblems) -> tuple[str, ...]:
    """Returns all labels in the cells of a column, in sorted order. Raises DataError where there are none."""
    found = {label for cell in set(table.column(name)) for label in _labels_in(cell, separator)}
    if not found:
        problems.raise_any()
        raise DataError(f"{table.path}: column {name!r} holds no labels")
    return tuple(sorted(found))


def _labels_in(cell: str, separator: str) -> list[str]:
    return [label for part in cell.split(separator) if (label := part.strip())]


def read_label_lists(table: Table, name: str, labels: Sequence[str], separator: str, problems: CellProblems) -> Tensor:
    """Returns which labels each cell of a column lists, uint8 (N, labels)."""
    place_of = {label: place for place, label in enumerate(labels)}
    targets = torch.zeros(len(table.rows), len(labels), dtype=torch.uint8)
    for row, cell in enumerate(table.column(name)):
        if not cell:
            problems.add(table, row, name, f"is empty; {separator!r} alone says that there is no label")
        for label in _labels_in(cell, separator):
            if label in place_of:
                targets[row, place_of[label]] = 1
            else:
                problems.add(table, row, name, f"holds label {label!r}, which the training file lacks")
    return targets
