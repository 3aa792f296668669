"""Rows of csv files as samples. Every complaint names file, line and column."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.contract import DataInfo, TableColumn, Task
from dlkit.core.data.samples import Source, SourceRequest, TensorSamples
from dlkit.core.data.sources.table_columns import encode_columns, pick_features, read_numbers
from dlkit.core.data.sources.table_file import Table, is_nameless, read_table
from dlkit.core.data.sources.table_numbers import FORMATS, NumberFormat, find_number_format
from dlkit.errors import DataError

MOST_CLASSES = 20
MOST_EXACT = 2**53  # whole numbers up to here are exact as floats
_DECIMALS = ("auto", ".", ",")
_THOUSANDS = {"auto": None, "none": "", ",": ",", ".": ".", " ": " ", "'": "'"}


@dataclass(frozen=True)
class Writing:
    """How cells and numbers of a table are parted; `auto` is found out from each file."""

    delimiter: str = "auto"
    decimal: str = "auto"
    thousands: str = "auto"

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
        """Returns the cells of a file."""
        return read_table(path, self.delimiter)

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
        if self.delimiter == "auto" and table.delimiter != ",":
            notes.append(f"cells are parted by {table.delimiter_words}; data.delimiter sets it otherwise")
        if "auto" in (self.decimal, self.thousands) and not numbers.is_plain:
            notes.append(f"numbers are read with {numbers.words}; data.decimal and data.thousands set it otherwise")
        return notes


def csv(
    path: str,
    target: str | list[str],
    *,
    features: Literal["auto"] | list[str] = "auto",
    sequence_length: int | None = None,
    delimiter: str = "auto",
    decimal: str = "auto",
    thousands: str = "auto",
    test_path: str | None = None,
    request: SourceRequest,
) -> Source:
    """Rows of a csv file with a header; `features: auto` is every column but the target and those without a name.

    Texts in the target column are classes, in sorted order; whole numbers of at most 20 different values are too, unless the
    task says otherwise; anything else, and more than one target, is regression. A feature column of texts becomes one input
    per text. With `sequence_length` T, a row's features are T steps of equally many values, the first step's values first.
    Raises DataError for cells that are empty or no finite number.
    """
    writing = Writing(delimiter, decimal, thousands)
    _check_options(writing, sequence_length)
    table = writing.open(Path(path))
    targets = [target] if isinstance(target, str) else list(target)
    columns, notes = pick_features(table, targets, features, known=request.columns)
    numbers = writing.numbers_in(table, [*(column.name for column in columns), *targets])
    task, task_notes = _pick_task(table, targets, numbers, request.task)
    labels = tuple(_class_labels(table, targets[0], numbers)) if task == "classification" else None
    reader = TableReader(writing, columns, sequence_length, tuple(targets), labels)
    return Source(
        task=task,
        kind="sequence" if sequence_length else "features",
        train=reader.samples_of(table),
        val=None,
        test=reader.samples_of(writing.open(Path(test_path))) if test_path else None,
        num_outputs=len(labels or targets),
        classes=labels,
        notes=(*writing.notes_on(table, numbers), *notes, *task_notes),
        columns=columns,
        targets=tuple(targets),
    )


def _check_options(writing: Writing, sequence_length: int | None) -> None:
    writing.check()
    if sequence_length is not None and (type(sequence_length) is not int or sequence_length < 1):
        raise ComponentError(
            f"expected a number of steps, at least 1, got {sequence_length!r}", option="sequence_length"
        )


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


def _class_labels(table: Table, target: str, numbers: NumberFormat) -> list[str]:
    found: dict[str, None] = {}
    for cell, line in zip(table.column(target), table.lines, strict=True):
        if not cell:
            raise DataError(f"{table.path}:{line}: column {target!r} is empty")
        label = _label_text(cell)
        found[label] = None
        value = numbers.number(label)
        if value is not None and not value.is_integer():
            raise DataError(
                f"{table.path}:{line}: column {target!r} holds {cell}, which is no class: classes are texts or whole numbers. "
                "For such numbers use a regression loss (mse) or task: regression"
            )
    if len(found) < 2:
        raise DataError(
            f"{table.path}: column {target!r} holds one class only ({next(iter(found))}); at least two are needed"
        )
    return sorted(found, key=lambda label: (Decimal(label), label)) if all(map(_is_whole, found)) else sorted(found)


def _label_text(cell: str) -> str:
    """Returns the name of a class: the cell as it is, but 1.0 and 1 are the same class."""
    whole, _, zeros = cell.partition(".")
    return whole if zeros and not zeros.strip("0") and _is_whole(whole) else cell


def read_rows(path: Path, info: DataInfo, options: Mapping[str, Any]) -> tuple[Table, Tensor, list[str]]:
    """Returns a table of rows to predict, the inputs that a model of tables takes, raw, float64, and notes.

    `options` are those of the `csv` that it was trained with. A target column may be there or not. Raises DataError for columns
    that are missing and cells that do not fit.
    """
    writing = Writing(*(options.get(name, "auto") for name in ("delimiter", "decimal", "thousands")))
    table = writing.open(path)
    columns = info.columns or _columns_by_place(table, info, options)
    numbers = writing.numbers_in(table, [column.name for column in columns])
    steps = info.input_size[0] if info.kind == "sequence" else None
    inputs = TableReader(writing, columns, steps, (), None).inputs_of(table, numbers)
    return table, inputs, writing.notes_on(table, numbers)


def _columns_by_place(table: Table, info: DataInfo, options: Mapping[str, Any]) -> tuple[TableColumn, ...]:
    """Returns all columns in their order, for a model that does not tell their names."""
    target = options.get("target", [])
    targets = [target] if isinstance(target, str) else list(target)
    names = options.get("features", "auto")
    if not isinstance(names, list):
        names = [name for name in table.header if not is_nameless(name) and name not in targets]
    count = math.prod(info.input_size)
    if len(names) != count:
        raise DataError(f"{table.path}: {len(names)} columns where the model takes {count} features")
    return tuple(map(TableColumn, names))


@dataclass(frozen=True)
class TableReader:
    """How the rows of a table become samples, of classes if there are `labels`."""

    writing: Writing
    columns: tuple[TableColumn, ...]
    sequence_length: int | None
    targets: tuple[str, ...]
    labels: tuple[str, ...] | None

    def samples_of(self, table: Table) -> TensorSamples:
        """Returns the inputs and targets of all rows. Raises DataError for columns that are missing and cells that do not fit."""
        numbers = self.writing.numbers_in(table, [*(column.name for column in self.columns), *self.targets])
        inputs = self.inputs_of(table, numbers)
        for name in self.targets:
            if name not in table.header:
                raise DataError(f"{table.path}: no column {name!r}, which the training file has")
        if self.labels is None:
            return TensorSamples(inputs, read_numbers(table, self.targets, numbers))
        return TensorSamples(inputs, _label_numbers(table, self.targets[0], self.labels))

    def inputs_of(self, table: Table, numbers: NumberFormat) -> Tensor:
        """Returns the inputs of all rows, float64 (N, F) or (N, T, F). Raises what `samples_of` raises."""
        inputs = encode_columns(table, self.columns, numbers)
        if self.sequence_length is None:
            return inputs
        if texts := next((column.name for column in self.columns if column.texts is not None), None):
            raise ComponentError(
                f"column {texts!r} holds texts, which cannot be part of a sequence", option="sequence_length"
            )
        if inputs.shape[1] % self.sequence_length:
            raise ComponentError(
                f"{inputs.shape[1]} feature columns cannot be cut into {self.sequence_length} steps of equally many",
                option="sequence_length",
            )
        return inputs.view(len(inputs), self.sequence_length, -1)


def _label_numbers(table: Table, target: str, labels: Sequence[str]) -> Tensor:
    number_of = {label: number for number, label in enumerate(labels)}
    numbers = []
    for cell, line in zip(table.column(target), table.lines, strict=True):
        if _label_text(cell) not in number_of:
            raise DataError(
                f"{table.path}:{line}: column {target!r} holds class {cell!r}, which the training file lacks"
            )
        numbers.append(number_of[_label_text(cell)])
    return torch.tensor(numbers)
