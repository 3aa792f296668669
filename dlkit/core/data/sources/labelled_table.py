"""What tables of images and tables of numbers share: a file with targets, splits and groups, made into a source."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dlkit.core.data.contract import Kind
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.sources.table_cells import CellProblems, Table
from dlkit.core.data.sources.table_columns import read_numbers
from dlkit.core.data.sources.table_file import Writing
from dlkit.core.data.sources.table_splits import Rows, SplitColumns
from dlkit.core.data.sources.table_targets import Targets, learn_targets


@dataclass(frozen=True)
class LabelledTable:
    """A table whose columns of targets, splits and groups are there. What is wrong with cells is collected in `problems`."""

    table: Table
    writing: Writing
    cuts: SplitColumns
    targets: Targets
    problems: CellProblems
    notes: tuple[str, ...]

    def source_of(
        self,
        samples_of: Callable[[Table, CellProblems], Rows],
        *,
        kind: Kind,
        test_path: str | None,
        notes: tuple[str, ...] = (),
        **facts: Any,
    ) -> Source:
        """Returns the source of what `samples_of` makes of the rows. Raises DataError for all cells that do not fit."""
        train = samples_of(self.table, self.problems)
        test = None
        if test_path:
            other = self.writing.open(Path(test_path))
            test = samples_of(other, self.problems)
            notes = (*notes, *self.cuts.check_apart(self.table, other, self.problems))
        source = Source(
            task=self.targets.task,
            kind=kind,
            train=train,
            val=None,
            test=test,
            num_outputs=self.targets.num_outputs,
            classes=self.targets.labels,
            notes=(*notes, *self.notes),
            targets=self.targets.names,
            weights=self._weights(),
            **facts,
        )
        return self.cuts.cut(source, train, self.table, self.problems)

    def _weights(self) -> Tensor | None:
        name = self.cuts.weights
        if name is None:
            return None
        return read_numbers(self.table, [name], self.writing.numbers_in(self.table, [name]), self.problems)[:, 0]


def open_labelled(
    path: str,
    target: str | list[str],
    *,
    writing: Writing,
    cuts: SplitColumns,
    separator: str | None,
    request: SourceRequest,
) -> LabelledTable:
    """Returns the table of a file. Raises ComponentError at the option that names a column which is not there."""
    writing.check()
    table, problems = writing.open(Path(path)), CellProblems()
    targets, notes = learn_targets(
        table, target, writing=writing, separator=separator, asked=request.task, problems=problems
    )
    cuts.check(table, targets.names)
    return LabelledTable(table, writing, cuts, targets, problems, notes)
