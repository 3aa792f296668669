"""Results as files: CSV, JSON or a picture, by the ending of the file name."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.files import PICTURES, check_ending, check_output, save_figure, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".csv", ".json", *PICTURES)


def check_result_files(paths: Iterable[Path], *, may_replace: bool) -> None:
    """Raise UsageError for a file name with another ending, OutputError for a file that cannot be written or must not be."""
    for path in paths:
        check_ending(path, ENDINGS)
        check_output(path, may_replace=may_replace)


def save_result(
    path: Path,
    *,
    table: Callable[[], Iterable[Sequence[object]]],
    content: Callable[[], Mapping[str, Any]],
    figure: Callable[[], "Figure"],
) -> None:
    """Write the rows of `table`, the JSON values of `content`, or `figure`, in place of what is there. Raises as `check_result_files`."""
    check_result_files([path], may_replace=True)
    if path.suffix.lower() in PICTURES:
        save_figure(path, figure())
    elif path.suffix.lower() == ".json":
        write_text(path, json.dumps(content(), allow_nan=False) + "\n")
    else:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerows(table())
        write_text(path, buffer.getvalue())
