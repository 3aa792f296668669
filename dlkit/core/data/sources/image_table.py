"""Tables of images: a column names the file of each picture, others what it shows."""

import os
from pathlib import Path

from dlkit.core.components import ComponentError
from dlkit.core.data.images import Mode
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.sources.imagefolder import DEFAULT_SIZE, FileSamples, check_mode
from dlkit.core.data.sources.table_cells import CellProblems, Table
from dlkit.core.data.sources.table_file import Writing
from dlkit.core.data.sources.table_splits import SplitColumns
from dlkit.core.data.sources.table_targets import learn_targets


def images(
    path: str,
    image: str,
    target: str | list[str],
    *,
    split: str | None = None,
    group: str | None = None,
    mode: Mode = "rgb",
    delimiter: str = "auto",
    decimal: str = "auto",
    thousands: str = "auto",
    test_path: str | None = None,
    request: SourceRequest,
) -> Source:
    """Pictures whose files the column `image` of a table names: CSV, TSV, JSON Lines or Parquet, by the ending of its name.

    Files are looked for below `root`, or else below the folder of the table. The target columns are read as in `table`. Raises
    DataError for all cells that are empty or wrong, and all files that are missing, unless those are to be skipped.
    """
    writing, cuts, problems = Writing(delimiter, decimal, thousands), SplitColumns(split, group), CellProblems()
    writing.check()
    check_mode(mode)
    main = writing.open(Path(path))
    main.require(image, "image")
    targets, notes = learn_targets(main, target, writing=writing, asked=request.task, problems=problems)
    cuts.check(main, targets.names)

    def samples_of(table: Table) -> FileSamples:
        paths = _find_files(table, image, request, problems)
        return FileSamples(paths, targets.read(table, writing.numbers_in(table, targets.names), problems), mode)

    train = samples_of(main)
    source = Source(
        task=targets.task,
        kind="image",
        train=train,
        val=None,
        test=samples_of(writing.open(Path(test_path))) if test_path else None,
        num_outputs=targets.num_outputs,
        classes=targets.labels,
        image_size=DEFAULT_SIZE,
        notes=(*writing.notes_on(main, writing.numbers_in(main, targets.names)), *notes),
        targets=targets.names,
    )
    return cuts.cut(source, train, main, problems)


def _find_files(table: Table, column: str, request: SourceRequest, problems: CellProblems) -> tuple[str, ...]:
    """Returns the file of each row. A path with backslashes, as Windows writes it, is read as one with slashes elsewhere."""
    if column not in table.header:
        raise ComponentError(f"{table.path} has no column {column!r}", option="test_path")
    folder, found = request.root or str(table.path.parent), []
    for row, cell in enumerate(table.column(column)):
        path = os.path.join(folder, cell)  # noqa: PTH118 - twenty times faster than Path over a million names
        if "\\" in cell and not os.path.isfile(path):  # noqa: PTH113
            path = os.path.join(folder, cell.replace("\\", "/"))  # noqa: PTH118
        if not cell:
            problems.add(table, row, column, "is empty")
        elif not request.skips_bad and not os.path.isfile(path):  # noqa: PTH113
            problems.add(table, row, column, f"names a file that is not there: {path}")
        found.append(path)
    return tuple(found)
