"""Tables of images: a column names the file of each picture, others what it shows."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dlkit.core.components import ComponentError
from dlkit.core.data.images import Mode
from dlkit.core.data.mask_files import MaskFiles, check_exact
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.sources.imagefolder import DEFAULT_SIZE, FileSamples, check_mode
from dlkit.core.data.sources.labelled_table import LabelledTable, open_labelled
from dlkit.core.data.sources.maskfolder import pick_code
from dlkit.core.data.sources.table_cells import CellProblems, Table
from dlkit.core.data.sources.table_file import Writing
from dlkit.core.data.sources.table_numbers import NumberFormat
from dlkit.core.data.sources.table_splits import SplitColumns
from dlkit.core.data.sources.table_targets import Targets
from dlkit.errors import UsageError


def images(
    path: str,
    image: str,
    target: str | list[str] | None = None,
    *,
    mask: str | None = None,
    classes: list[str] | None = None,
    colors: dict[str, list[int]] | None = None,
    ignored_colors: list[list[int]] | None = None,
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

    Files are looked for below `root`, or else below the folder of the table. The target columns are read as in `table`; with the column
    `mask` of files, the targets are masks, which are read as in `maskfolder`. Raises DataError for all cells that are empty or wrong, and
    all files that are missing, unless those are to be skipped.
    """
    check_mode(mode)
    writing, cuts = Writing(delimiter, decimal, thousands), SplitColumns(split, group, request.weights)
    _check_targets(target, mask, {"classes": classes, "colors": colors, "ignored_colors": ignored_colors})
    if mask is not None:
        asked = MaskColumn(mask, classes, colors, ignored_colors)
        return _open_masked(
            path, image, asked, writing=writing, cuts=cuts, mode=mode, test_path=test_path, request=request
        )
    assert target is not None
    labelled = open_labelled(path, target, writing=writing, cuts=cuts, separator=separator, request=request)
    return _labelled_source(labelled, image, writing, mode=mode, test_path=test_path, request=request)


def _labelled_source(
    labelled: LabelledTable, image: str, writing: Writing, *, mode: Mode, test_path: str | None, request: SourceRequest
) -> Source:
    main, targets = labelled.table, labelled.targets
    main.require(image, "image")

    def samples_of(table: Table, problems: CellProblems) -> FileSamples:
        if image not in table.header:
            raise ComponentError(f"{table.path} has no column {image!r}", option="test_path")
        paths = _find_files(table, image, problems, root=request.root, skips_bad=request.skips_bad)
        return FileSamples(paths, targets.read(table, writing.numbers_in(table, targets.names), problems), mode)

    notes = tuple(writing.notes_on(main, writing.numbers_in(main, targets.names)))
    return labelled.source_of(samples_of, kind="image", test_path=test_path, notes=notes, image_size=DEFAULT_SIZE)


@dataclass(frozen=True)
class MaskColumn:
    """The column of files of masks, and how these are read."""

    name: str
    classes: list[str] | None
    colors: dict[str, list[int]] | None
    ignored_colors: list[list[int]] | None


def _check_targets(target: str | list[str] | None, mask: str | None, of_masks: Mapping[str, Any]) -> None:
    if (target is None) == (mask is None):
        raise ComponentError("expected a target or a mask, a column of one of both", option="target")
    for option, value in of_masks.items():
        if mask is None and value is not None:
            raise ComponentError("belongs to masks: name their column with mask", option=option)


def _open_masked(
    path: str,
    image: str,
    mask: MaskColumn,
    *,
    writing: Writing,
    cuts: SplitColumns,
    mode: Mode,
    test_path: str | None,
    request: SourceRequest,
) -> Source:
    writing.check()
    main, problems = writing.open(Path(path)), CellProblems()
    main.require(image, "image")
    main.require(mask.name, "mask")
    cuts.check(main, (mask.name,))
    found = _find_files(main, mask.name, problems, root=request.root, skips_bad=False)
    problems.raise_any()
    code, names, count = pick_code(found, mask.classes, mask.colors, mask.ignored_colors, request)

    def samples_of(table: Table, problems: CellProblems) -> FileSamples:
        paths, masks = (
            _find_files(table, column, problems, root=request.root, skips_bad=request.skips_bad)
            for column in (image, mask.name)
        )
        for one in masks:
            check_exact(one)
        zeros = torch.zeros(len(paths), dtype=torch.int64)
        return FileSamples(paths, zeros, mode, masks=MaskFiles(masks, code))

    labelled = LabelledTable(main, writing, cuts, Targets((mask.name,), "segmentation", names), problems, ())
    source = labelled.source_of(samples_of, kind="image", test_path=test_path, image_size=DEFAULT_SIZE)
    return replace(source, num_outputs=count, targets=None)


def read_image_rows(
    path: Path, column: str, options: Mapping[str, Any], *, root: str | None, skips_bad: bool
) -> tuple[Table, tuple[str, ...], list[str]]:
    """Returns a table whose pictures are to be predicted, the file of each row, and notes. Targets may be there or not.

    `options` are those of the `images` that the model was trained with; files are found as there. Raises UsageError without such a
    column, DataError for all cells that are empty, and all files that are missing, unless those are to be skipped.
    """
    writing, problems = Writing.of(options), CellProblems()
    table = writing.open(path)
    if column not in table.header:
        raise UsageError(
            f"{path} has no column {column!r} of picture files; it has: {', '.join(table.header)}. --image-column names another"
        )
    paths = _find_files(table, column, problems, root=root, skips_bad=skips_bad)
    problems.raise_any()
    return table, paths, writing.notes_on(table, NumberFormat())


def _find_files(
    table: Table, column: str, problems: CellProblems, *, root: str | None, skips_bad: bool
) -> tuple[str, ...]:
    """Returns the file of each row. A path with backslashes, as Windows writes it, is read as one with slashes elsewhere."""
    folder, found = root or str(table.path.parent), []
    for row, cell in enumerate(table.column(column)):
        path = os.path.join(folder, cell)  # noqa: PTH118 - twenty times faster than Path over a million names
        if "\\" in cell and not os.path.isfile(path):  # noqa: PTH113
            path = os.path.join(folder, cell.replace("\\", "/"))  # noqa: PTH118
        if not cell:
            problems.add(table, row, column, "is empty")
        elif not skips_bad and not os.path.isfile(path):  # noqa: PTH113
            problems.add(table, row, column, f"names a file that is not there: {path}")
        found.append(path)
    return tuple(found)
