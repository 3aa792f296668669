"""Tables of images: a column names the file of each picture, others what it shows."""

import os

from dlkit.core.components import ComponentError
from dlkit.core.data.images import Mode
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.sources.imagefolder import DEFAULT_SIZE, FileSamples, check_mode
from dlkit.core.data.sources.labelled_table import open_labelled
from dlkit.core.data.sources.table_cells import CellProblems, Table
from dlkit.core.data.sources.table_file import Writing
from dlkit.core.data.sources.table_splits import SplitColumns


def images(
    path: str,
    image: str,
    target: str | list[str],
    *,
    split: str | None = None,
    group: str | None = None,
    separator: str | None = None,
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
    check_mode(mode)
    writing, cuts = Writing(delimiter, decimal, thousands), SplitColumns(split, group, request.weights)
    labelled = open_labelled(path, target, writing=writing, cuts=cuts, separator=separator, request=request)
    main, targets = labelled.table, labelled.targets
    main.require(image, "image")

    def samples_of(table: Table, problems: CellProblems) -> FileSamples:
        paths = _find_files(table, image, request, problems)
        return FileSamples(paths, targets.read(table, writing.numbers_in(table, targets.names), problems), mode)

    notes = tuple(writing.notes_on(main, writing.numbers_in(main, targets.names)))
    return labelled.source_of(samples_of, kind="image", test_path=test_path, notes=notes, image_size=DEFAULT_SIZE)


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
