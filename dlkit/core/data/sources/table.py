"""Rows of numbers in csv files. Every complaint names file, line and column."""

import csv as csv_format
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.contract import Task
from dlkit.core.data.samples import Source, SourceRequest, TensorSamples
from dlkit.errors import DataError
from dlkit.suggestions import did_you_mean

MOST_CLASSES = 20


@dataclass(frozen=True)
class Table:
    """The cells of a file, stripped, by row and column; `lines` are where each row ends."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """Returns the cells of one column."""
        position = self.header.index(name)
        return [row[position] for row in self.rows]


def csv(
    path: str,
    target: str | list[str],
    *,
    features: Literal["auto"] | list[str] = "auto",
    sequence_length: int | None = None,
    delimiter: str = ",",
    test_path: str | None = None,
    request: SourceRequest,
) -> Source:
    """Rows of a csv file with a header; `features: auto` is every column but the target.

    Texts in the target column are classes, in sorted order; whole numbers of at most 20 different values are too,
    unless the task says otherwise; anything else, and more than one target, is regression. With `sequence_length` T, a
    row's features are T steps of equally many values, the first step's values first. Raises DataError for cells that
    are empty or no finite number.
    """
    _check_options(sequence_length, delimiter)
    table = read_table(Path(path), delimiter)
    targets = [target] if isinstance(target, str) else list(target)
    columns = _pick_columns(table, targets, features)
    task_found, notes = _pick_task(table, targets, request.task)
    labels = _class_labels(table, targets[0]) if task_found == "classification" else None
    tables = [table] if test_path is None else [table, read_table(Path(test_path), delimiter)]
    samples = [_to_samples(part, columns, targets, labels=labels, sequence_length=sequence_length) for part in tables]
    return Source(
        task=task_found,
        kind="sequence" if sequence_length else "features",
        train=samples[0],
        val=None,
        test=samples[1] if test_path else None,
        num_outputs=len(labels) if labels else len(targets),
        classes=tuple(labels) if labels else None,
        notes=notes,
    )


def _check_options(sequence_length: int | None, delimiter: str) -> None:
    if sequence_length is not None and (type(sequence_length) is not int or sequence_length < 1):
        raise ComponentError(
            f"expected a number of steps, at least 1, got {sequence_length!r}", option="sequence_length"
        )
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ComponentError(f"expected one character, got {delimiter!r}", option="delimiter")


def read_table(path: Path, delimiter: str) -> Table:
    """Returns all cells of a file. Raises DataError for a missing file, no header, no rows, and rows of another length."""
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv_format.reader(file, delimiter=delimiter, strict=True)
            for row in reader:
                if any(cell.strip() for cell in row):
                    rows.append(tuple(cell.strip() for cell in row))
                    lines.append(reader.line_num)
    except csv_format.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    return _checked_table(path, rows, lines, delimiter=delimiter)


def _checked_table(path: Path, rows: list[tuple[str, ...]], lines: list[int], *, delimiter: str) -> Table:
    if not rows:
        raise DataError(f"{path}: the file is empty")
    header = rows[0]
    if len(header) == 1 and (other := next((mark for mark in ";\t|," if mark in header[0]), None)):
        raise DataError(
            f"{path}:{lines[0]}: one column, {header[0]!r}; columns are parted by {delimiter!r}. "
            f"Did you mean delimiter: {other!r}?"
        )
    if all(_is_number(cell) for cell in header):
        raise DataError(
            f"{path}:{lines[0]}: numbers where the names of the columns are expected; put a header line first"
        )
    doubled = next((name for name in header if header.count(name) > 1), None)
    if doubled is not None:
        raise DataError(f"{path}:{lines[0]}: column {doubled!r} stands there twice")
    if len(rows) == 1:
        raise DataError(f"{path}: a header but no rows")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise DataError(f"{path}:{line}: {len(row)} cells where the header has {len(header)}")
    return Table(path, header, tuple(rows[1:]), tuple(lines[1:]))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _pick_columns(table: Table, targets: Sequence[str], features: Literal["auto"] | list[str]) -> list[str]:
    if not targets:
        raise ComponentError("at least one column is needed", option="target")
    for name in targets:
        _check_column(table, name, "target")
    if features == "auto":
        columns = [name for name in table.header if name not in targets]
    else:
        columns = [features] if isinstance(features, str) else list(features)
        for name in columns:
            _check_column(table, name, "features")
            if name in targets:
                raise ComponentError(f"{name!r} is the target; it cannot be a feature too", option="features")
    if not columns:
        raise DataError(f"{table.path}: no feature columns beside the target")
    return columns


def _check_column(table: Table, name: str, option: str) -> None:
    if name not in table.header:
        hint = did_you_mean(str(name), table.header)
        raise ComponentError(
            f"{table.path} has no column {name!r}.{hint} It has: {', '.join(table.header)}", option=option
        )


def _pick_task(table: Table, targets: Sequence[str], asked: Task | None) -> tuple[Task, tuple[str, ...]]:
    if len(targets) > 1:
        if asked == "classification":
            raise ComponentError("classification takes one target column", option="target")
        return "regression", ()
    if asked is not None:
        return asked, ()
    cells = table.column(targets[0])
    if not all(_is_number(cell) or not cell for cell in cells):
        return "classification", ()
    values = {float(cell) for cell in cells if cell}
    if all(value.is_integer() for value in values) and len(values) <= MOST_CLASSES:
        return "classification", (
            f"column {targets[0]!r} holds {len(values)} different whole numbers and is taken as classes; "
            "for regression set task: regression",
        )
    return "regression", ()


def _class_labels(table: Table, target: str) -> list[str]:
    found: dict[str, None] = {}
    for cell, line in zip(table.column(target), table.lines, strict=True):
        if not cell:
            raise DataError(f"{table.path}:{line}: column {target!r} is empty")
        found[_label_text(cell)] = None
        if _is_number(cell) and not float(cell).is_integer():
            raise DataError(
                f"{table.path}:{line}: column {target!r} holds {cell}, which is no class: classes are texts or whole numbers. "
                "For such numbers use a regression loss (mse) or task: regression"
            )
    if len(found) < 2:
        raise DataError(
            f"{table.path}: column {target!r} holds one class only ({next(iter(found))}); at least two are needed"
        )
    return sorted(found, key=float) if all(map(_is_number, found)) else sorted(found)


def _label_text(cell: str) -> str:
    # 1 and 1.0 are the same class
    return (
        str(int(float(cell))) if _is_number(cell) and math.isfinite(float(cell)) and float(cell).is_integer() else cell
    )


def _to_samples(
    table: Table, columns: list[str], targets: list[str], *, labels: list[str] | None, sequence_length: int | None
) -> TensorSamples:
    for name in (*columns, *targets):
        if name not in table.header:
            raise DataError(f"{table.path}: no column {name!r}, which the training file has")
    inputs = _numbers(table, columns)
    if sequence_length is not None:
        if len(columns) % sequence_length:
            raise ComponentError(
                f"{len(columns)} feature columns cannot be cut into {sequence_length} steps of equally many",
                option="sequence_length",
            )
        inputs = inputs.view(len(inputs), sequence_length, -1)
    if labels is None:
        return TensorSamples(inputs, _numbers(table, targets).float())
    return TensorSamples(inputs, _label_numbers(table, targets[0], labels))


def _numbers(table: Table, columns: list[str]) -> Tensor:
    positions = [table.header.index(name) for name in columns]
    values = []
    for row, line in zip(table.rows, table.lines, strict=True):
        try:
            values.append([float(row[position]) for position in positions])
        except ValueError:
            position = next(position for position in positions if not _is_number(row[position]))
            what = "is empty" if not row[position] else f"is not a number: {row[position]!r}"
            raise DataError(f"{table.path}:{line}: column {table.header[position]!r} {what}") from None
    tensor = torch.tensor(values, dtype=torch.float64)
    wrong = (~tensor.isfinite()).nonzero()
    if len(wrong):
        row_number, number = wrong[0].tolist()
        cell = table.rows[row_number][positions[number]]
        raise DataError(f"{table.path}:{table.lines[row_number]}: column {columns[number]!r} is not finite: {cell!r}")
    return tensor


def _label_numbers(table: Table, target: str, labels: list[str]) -> Tensor:
    number_of = {label: number for number, label in enumerate(labels)}
    numbers = []
    for cell, line in zip(table.column(target), table.lines, strict=True):
        if _label_text(cell) not in number_of:
            raise DataError(
                f"{table.path}:{line}: column {target!r} holds class {cell!r}, which the training file lacks"
            )
        numbers.append(number_of[_label_text(cell)])
    return torch.tensor(numbers)
