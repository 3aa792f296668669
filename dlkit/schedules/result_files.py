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


def check_result_file(path: Path) -> None:
    """Raise UsageError for a file name with another ending, OutputError for a file that cannot be written."""
    check_ending(path, ENDINGS)
    check_output(path, may_replace=True)


def save_result(
    path: Path,
    *,
    table: Callable[[], Iterable[Sequence[object]]],
    content: Callable[[], Mapping[str, Any]],
    figure: Callable[[], "Figure"],
) -> None:
    """Write the rows of `table`, the JSON values of `content`, or `figure`. Raises as `check_result_file` does."""
    check_result_file(path)
    if path.suffix.lower() in PICTURES:
        save_figure(path, figure())
    elif path.suffix.lower() == ".json":
        write_text(path, json.dumps(content(), allow_nan=False) + "\n")
    else:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerows(table())
        write_text(path, buffer.getvalue())
