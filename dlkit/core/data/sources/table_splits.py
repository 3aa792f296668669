"""Splits and groups that a table names itself, in a column each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from dlkit.choices import SplitName
from dlkit.core.components import ComponentError
from dlkit.core.data.samples import Samples, Source
from dlkit.core.data.sources.imagefolder import SPLIT_FOLDERS
from dlkit.core.data.sources.table_cells import CellProblems, Table
from dlkit.errors import DataError

_SPLIT_OF: Mapping[str, SplitName] = {
    word: split for split in ("train", "val", "test") for word in SPLIT_FOLDERS[split]
}


class Rows(Samples, Protocol):
    """Samples of which some can be taken."""

    def taken(self, rows: Tensor) -> Samples:
        """Returns the samples at these rows."""


@dataclass(frozen=True)
class SplitColumns:
    """The columns that say which split a row belongs to, which rows stay together in one, and how much each weighs in training."""

    split: str | None
    group: str | None
    weights: str | None = None

    def check(self, table: Table, targets: tuple[str, ...]) -> None:
        """Raise ComponentError at the option whose column is missing or a target."""
        for option, name in (("split", self.split), ("group", self.group), ("sampling", self.weights)):
            if name is not None:
                table.require(name, option)
            if name in targets:
                raise ComponentError(f"{name!r} is the target", option=option)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that there are."""
        return tuple(name for name in (self.split, self.group, self.weights) if name is not None)

    def check_apart(self, table: Table, other: Table, problems: CellProblems) -> tuple[str, ...]:
        """Note groups of a table that stand in the table of the test too; returns a sentence where it does not tell its groups."""
        if self.group is None:
            return ()
        if self.group not in other.header:
            return (f"{other.path} has no column {self.group!r}: its rows may be of groups that are trained on",)
        first = {cell: row for row, cell in reversed(list(enumerate(table.column(self.group))))}
        for row, cell in enumerate(other.column(self.group)):
            if cell and cell in first:
                what = f"holds group {cell!r} of the test, which is trained on at {table.place(first[cell])}"
                problems.add(other, row, self.group, what)
        return ()

    def cut(self, source: Source, whole: Rows, table: Table, problems: CellProblems) -> Source:
        """Returns the source with the rows of the table where its columns say. Raises DataError for all cells that are wrong."""
        splits = _read_splits(table, self.split, problems)
        groups = _read_groups(table, self.group, problems)
        if self.split and self.group:
            _check_apart(table, self.group, splits, problems)
        if source.task == "classification":
            _check_classes(table, source, splits, problems)
        problems.raise_any()
        rows: dict[str, Tensor] = {
            name: torch.tensor([row for row, split in enumerate(splits) if split == name], dtype=torch.int64)
            for name in ("train", "val", "test")
        }
        if not len(rows["train"]):
            raise DataError(f"{table.path}: column {self.split!r} says train nowhere")
        if len(rows["test"]) and source.test is not None:
            raise ComponentError(f"column {self.split!r} has test rows already", option="test_path")
        return replace(
            source,
            train=whole.taken(rows["train"]),
            val=whole.taken(rows["val"]) if len(rows["val"]) else None,
            test=whole.taken(rows["test"]) if len(rows["test"]) else source.test,
            groups=None if groups is None else groups[rows["train"]],
            weights=None if source.weights is None else source.weights[rows["train"]],
        )


def _read_splits(table: Table, column: str | None, problems: CellProblems) -> list[SplitName | None]:
    if column is None:
        return ["train"] * len(table.rows)
    cells = table.column(column)
    splits = [_SPLIT_OF.get(cell.casefold()) for cell in cells]
    for row, split in enumerate(splits):
        if split is None:
            what = f"holds {cells[row]!r}; a split is train, val or test" if cells[row] else "is empty"
            problems.add(table, row, column, what)
    return splits


def _read_groups(table: Table, column: str | None, problems: CellProblems) -> Tensor | None:
    if column is None:
        return None
    cells, numbers = table.column(column), dict[str, int]()
    for row, cell in enumerate(cells):
        if not cell:
            problems.add(table, row, column, "is empty")
    return torch.tensor([numbers.setdefault(cell, len(numbers)) for cell in cells])


def _check_classes(table: Table, source: Source, splits: list[SplitName | None], problems: CellProblems) -> None:
    labels = source.train.targets.tolist()
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    for row, (label, split) in enumerate(zip(labels, splits, strict=True)):
        if trained and label not in trained and split is not None and source.classes and source.targets:
            what = f"holds class {source.classes[label]!r}, which no training row has"
            problems.add(table, row, source.targets[0], what)


def _check_apart(table: Table, column: str, splits: list[SplitName | None], problems: CellProblems) -> None:
    first: dict[str, int] = {}
    for row, (cell, split) in enumerate(zip(table.column(column), splits, strict=True)):
        other = first.setdefault(cell, row)
        if cell and None not in (split, splits[other]) and split != splits[other]:
            what = f"holds group {cell!r} in {split}, which is in {splits[other]} at {table.place(other)}"
            problems.add(table, row, column, what)
