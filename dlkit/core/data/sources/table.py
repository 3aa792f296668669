"""Rows of tables as samples. Every complaint names file, line and column."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.contract import DataInfo, TableColumn
from dlkit.core.data.samples import Source, SourceRequest, TensorSamples
from dlkit.core.data.sources.labelled_table import open_labelled
from dlkit.core.data.sources.table_cells import CellProblems, Table, is_nameless
from dlkit.core.data.sources.table_columns import encode_columns, pick_features
from dlkit.core.data.sources.table_file import Writing
from dlkit.core.data.sources.table_numbers import NumberFormat
from dlkit.core.data.sources.table_splits import SplitColumns
from dlkit.core.data.sources.table_targets import Targets
from dlkit.errors import DataError

MISSING_WAYS = ("refuse", "mean")


def table(
    path: str,
    target: str | list[str],
    *,
    features: Literal["auto"] | list[str] = "auto",
    split: str | None = None,
    group: str | None = None,
    separator: str | None = None,
    missing: Literal["refuse", "mean"] = "refuse",
    sequence_length: int | None = None,
    delimiter: str = "auto",
    decimal: str = "auto",
    thousands: str = "auto",
    test_path: str | None = None,
    request: SourceRequest,
) -> Source:
    """Rows of a table: CSV, TSV, JSON Lines or Parquet, by the ending of its name. `features: auto` is every column that has a
    name and serves nothing else.

    Targets are as `learn_targets` takes them. A feature column of texts becomes one input per text. With `sequence_length` T, a row's
    features are T steps of equally many values, the first step's values first. `missing: mean` leaves what is missing NaN, for the
    means of the training rows to come. Raises DataError for all cells that are empty or do not fit.
    """
    _check_options(sequence_length, missing)
    writing, cuts = Writing(delimiter, decimal, thousands), SplitColumns(split, group, request.weights)
    labelled = open_labelled(path, target, writing=writing, cuts=cuts, separator=separator, request=request)
    main, targets, known = labelled.table, labelled.targets, request.columns
    may_miss = missing == "mean"
    columns, notes = pick_features(
        main, features, targets=targets.names, others=cuts.names, known=known, may_miss=may_miss
    )
    reader = TableReader(writing, columns, sequence_length, targets, may_miss and known is None)
    return labelled.source_of(
        reader.samples_of,
        kind="sequence" if sequence_length else "features",
        test_path=test_path,
        notes=(*reader.notes_on(main), *notes),
        columns=columns,
        fills_missing=reader.may_miss,
    )


def _check_options(sequence_length: int | None, missing: str) -> None:
    if missing not in MISSING_WAYS:
        raise ComponentError(f"expected refuse or mean, got {missing!r}", option="missing")
    if sequence_length is not None and (type(sequence_length) is not int or sequence_length < 1):
        raise ComponentError(
            f"expected a number of steps, at least 1, got {sequence_length!r}", option="sequence_length"
        )


def read_rows(path: Path, info: DataInfo, options: Mapping[str, Any]) -> tuple[Table, Tensor, list[str]]:
    """Returns a table of rows to predict, the inputs that a model of tables takes, raw, float64, and notes.

    `options` are those of the `table` that it was trained with. A target column may be there or not. Raises DataError for columns
    that are missing and cells that do not fit.
    """
    writing, problems = Writing.of(options), CellProblems()
    table = writing.open(path)
    columns = info.columns or _columns_by_place(table, info, options)
    steps = info.input_size[0] if info.kind == "sequence" else None
    reader = TableReader(writing, columns, steps, Targets((), "regression", None))
    inputs = reader.inputs_of(table, reader.numbers_in(table), problems)
    problems.raise_any()
    return table, inputs, reader.notes_on(table)


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
    """How the rows of a table become samples; where a cell `may_miss`, its input is NaN."""

    writing: Writing
    columns: tuple[TableColumn, ...]
    sequence_length: int | None
    targets: Targets
    may_miss: bool = False

    def numbers_in(self, table: Table) -> NumberFormat:
        """Returns how a table writes numbers."""
        return self.writing.numbers_in(table, [*(column.name for column in self.columns), *self.targets.names])

    def notes_on(self, table: Table) -> list[str]:
        """Returns what is not plain about how a table is written."""
        return self.writing.notes_on(table, self.numbers_in(table))

    def samples_of(self, table: Table, problems: CellProblems) -> TensorSamples:
        """Returns the inputs and targets of all rows. Raises DataError for columns that are missing."""
        numbers = self.numbers_in(table)
        return TensorSamples(self.inputs_of(table, numbers, problems), self.targets.read(table, numbers, problems))

    def inputs_of(self, table: Table, numbers: NumberFormat, problems: CellProblems) -> Tensor:
        """Returns the inputs of all rows, float64 (N, F) or (N, T, F). Raises what `samples_of` raises."""
        inputs = encode_columns(table, self.columns, numbers, problems, may_miss=self.may_miss)
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
