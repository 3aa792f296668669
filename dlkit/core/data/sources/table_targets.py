"""What is to be learned from the rows of a table: classes, or numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.contract import Task
from dlkit.core.data.sources.table_cells import CellProblems, Table
from dlkit.core.data.sources.table_columns import read_numbers
from dlkit.core.data.sources.table_file import Writing
from dlkit.core.data.sources.table_numbers import NumberFormat
from dlkit.errors import DataError

MOST_CLASSES = 20
MOST_EXACT = 2**53  # whole numbers up to here are exact as floats


@dataclass(frozen=True)
class Targets:
    """The target columns of a table, and the names of its classes if they are that."""

    names: tuple[str, ...]
    task: Task
    labels: tuple[str, ...] | None

    @property
    def num_outputs(self) -> int:
        """Classes, or target columns."""
        return len(self.labels or self.names)

    def read(self, table: Table, numbers: NumberFormat, problems: CellProblems) -> Tensor:
        """Returns the targets of all rows: int64 (N,), or float64 (N, columns). Raises DataError for a column that is missing."""
        for name in self.names:
            if name not in table.header:
                raise DataError(f"{table.path}: no column {name!r}, which the training file has")
        if self.labels is None:
            return read_numbers(table, self.names, numbers, problems)
        return _label_numbers(table, self.names[0], self.labels, problems)


def learn_targets(
    table: Table, target: str | list[str], *, writing: Writing, asked: Task | None, problems: CellProblems
) -> tuple[Targets, tuple[str, ...]]:
    """Returns what the target columns hold, as the task that is asked for has it, and notes.

    Raises ComponentError for columns that the table has not, DataError where all rows are of one class.
    """
    names = (target,) if isinstance(target, str) else tuple(target)
    if not names:
        raise ComponentError("at least one column is needed", option="target")
    for name in names:
        table.require(name, "target")
    numbers = writing.numbers_in(table, names)
    task, notes = _pick_task(table, names, numbers, asked)
    labels = tuple(_class_labels(table, names[0], numbers, problems)) if task == "classification" else None
    return Targets(names, task, labels), notes


def _pick_task(
    table: Table, targets: Sequence[str], numbers: NumberFormat, asked: Task | None
) -> tuple[Task, tuple[str, ...]]:
    if len(targets) > 1:
        if asked == "classification":
            raise ComponentError("classification takes one target column", option="target")
        return "regression", ()
    if asked is not None:
        return asked, ()
    values = {_label_text(cell) for cell in table.column(targets[0]) if cell}
    if any(numbers.number(value) is None for value in values):
        return "classification", ()
    if not all(map(_is_whole, values)):
        return "regression", ()
    what, way_out = f"column {targets[0]!r} holds", "is taken as classes; for regression set task: regression"
    if any(map(_is_name, values)):
        return "classification", (
            f"{what} whole numbers that are names, such as {min(filter(_is_name, values))}, and {way_out}",
        )
    if len(values) <= MOST_CLASSES:
        return "classification", (f"{what} {len(values)} different whole numbers and {way_out}",)
    return "regression", ()


def _is_whole(label: str) -> bool:
    return _without_sign(label).isdecimal()


def _is_name(label: str) -> bool:
    """Whether a whole number would not come out of a float as it went in."""
    digits = _without_sign(label)
    return (digits[0] == "0" and len(digits) > 1) or int(digits) > MOST_EXACT


def _without_sign(label: str) -> str:
    return label[1:] if label[:1] in ("-", "+") else label


def _class_labels(table: Table, target: str, numbers: NumberFormat, problems: CellProblems) -> list[str]:
    found: dict[str, None] = {}
    for row, cell in enumerate(table.column(target)):
        if not cell:
            problems.add(table, row, target, "is empty")
            continue
        label = _label_text(cell)
        value = numbers.number(label)
        if value is not None and not value.is_integer():
            problems.add(
                table,
                row,
                target,
                f"holds {cell}, which is no class: classes are texts or whole numbers. "
                "For such numbers use a regression loss (mse) or task: regression",
            )
            continue
        found[label] = None
    if len(found) < 2:
        problems.raise_any()
        raise DataError(
            f"{table.path}: column {target!r} holds one class only ({next(iter(found))}); at least two are needed"
        )
    return sorted(found, key=lambda label: (Decimal(label), label)) if all(map(_is_whole, found)) else sorted(found)


def _label_text(cell: str) -> str:
    """Returns the name of a class: the cell as it is, but 1.0 and 1 are the same class."""
    whole, _, zeros = cell.partition(".")
    return whole if zeros and not zeros.strip("0") and _is_whole(whole) else cell


def _label_numbers(table: Table, target: str, labels: Sequence[str], problems: CellProblems) -> Tensor:
    number_of = {label: number for number, label in enumerate(labels)}
    numbers = []
    for row, cell in enumerate(table.column(target)):
        number = number_of.get(_label_text(cell))
        if number is None:
            what = f"holds class {cell!r}, which the training file lacks" if cell else "is empty"
            problems.add(table, row, target, what)
        numbers.append(number or 0)
    return torch.tensor(numbers)
