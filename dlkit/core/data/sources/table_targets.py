"""What is to be learned from the rows of a table: classes, labels, or numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.sources.labels import labels_note
from dlkit.core.data.sources.table_cells import CellProblems, Table
from dlkit.core.data.sources.table_columns import read_numbers
from dlkit.core.data.sources.table_file import Writing
from dlkit.core.data.sources.table_labels import (
    are_bits,
    learn_labels,
    pick_separator,
    read_bits,
    read_label_lists,
)
from dlkit.core.data.sources.table_numbers import NumberFormat
from dlkit.errors import DataError
from dlkit.tasks import TaskName

MOST_CLASSES = 20
MOST_EXACT = 2**53  # whole numbers up to here are exact as floats


@dataclass(frozen=True)
class Targets:
    """The target columns of a table, and the names of its classes, or of its labels, if they are that.

    Labels have a column of 0 and 1 each, or stand together in one column, a `separator` between them.
    """

    names: tuple[str, ...]
    task: TaskName
    labels: tuple[str, ...] | None
    separator: str | None = None

    @property
    def num_outputs(self) -> int:
        """Classes, labels or target columns."""
        return len(self.labels or self.names)

    def read(self, table: Table, numbers: NumberFormat, problems: CellProblems) -> Tensor:
        """Returns the targets of all rows: int64 (N,), uint8 (N, labels), or float64 (N, columns).

        Raises DataError for a column that is missing.
        """
        for name in self.names:
            if name not in table.header:
                raise DataError(f"{table.path}: no column {name!r}, which the training file has")
        if self.labels is None:
            return read_numbers(table, self.names, numbers, problems)
        if self.task == "classification":
            return _label_numbers(table, self.names[0], self.labels, problems)
        if self.separator is None:
            return read_bits(table, self.names, numbers, problems)
        return read_label_lists(table, self.names[0], self.labels, self.separator, problems)


def learn_targets(
    table: Table,
    target: str | list[str],
    *,
    writing: Writing,
    separator: str | None,
    asked: TaskName | None,
    problems: CellProblems,
) -> tuple[Targets, tuple[str, ...]]:
    """Returns what the target columns hold, and notes.

    A column of texts is classes, in sorted order; one of whole numbers of at most 20 different values is too; with a `separator`, or
    lists in its cells, it is labels, and so are several columns of 0 and 1; anything else is regression. The task that is asked for
    decides where it can. Raises ComponentError at options that do not fit, DataError where all rows are of one class.
    """
    names = (target,) if isinstance(target, str) else tuple(target)
    if not names:
        raise ComponentError("at least one column is needed", option="target")
    for name in names:
        table.require(name, "target")
    numbers = writing.numbers_in(table, names)
    mark = pick_separator(table, names, separator, asked)
    if mark is not None:
        return Targets(names, "multilabel", learn_labels(table, names[0], mark, problems), mark), ()
    task, notes = _pick_task(table, names, numbers, asked)
    if task == "multilabel":
        return Targets(names, task, names), notes
    labels = tuple(_class_labels(table, names[0], numbers, problems)) if task == "classification" else None
    return Targets(names, task, labels), notes


def _pick_task(
    table: Table, targets: Sequence[str], numbers: NumberFormat, asked: TaskName | None
) -> tuple[TaskName, tuple[str, ...]]:
    if asked == "multilabel" or (asked is None and len(targets) > 1 and are_bits(table, targets, numbers)):
        notes = () if asked else (labels_note(read_bits(table, targets, numbers, CellProblems())),)
        return "multilabel", notes
    if len(targets) > 1:
        if asked == "classification":
            raise ComponentError("classification takes one target column", option="target")
        return "regression", ()
    return (asked, ()) if asked is not None else _task_of_column(table, targets[0], numbers)


def _task_of_column(table: Table, target: str, numbers: NumberFormat) -> tuple[TaskName, tuple[str, ...]]:
    values = {_label_text(cell) for cell in table.column(target) if cell}
    if any(numbers.number(value) is None for value in values):
        return "classification", ()
    if not all(map(_is_whole, values)):
        return "regression", ()
    what, way_out = f"column {target!r} holds", "is taken as classes; for regression set task: regression"
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
