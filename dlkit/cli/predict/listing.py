"""Predictions line by line: written to a file, printed as JSON, or shown as a table."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dlkit.cli.predict.answer_text import cells_of, facts_of, ranked
from dlkit.errors import DataError

if TYPE_CHECKING:
    from dlkit.core.evaluation import Answer

MOST_PROBLEMS = 10


@dataclass(frozen=True)
class Line:
    """What is predicted of one image or row: where it stands, in JSON and in words, its own cells, and the answer."""

    place: dict[str, Any]
    title: str
    cells: tuple[str, ...]
    answer: "Answer"


@dataclass(frozen=True)
class Listing:
    """Predictions, each made as it is taken from `lines`.

    `header` names the cells that lines have themselves, `names` those that are predicted, `what` is that in words. Of pictures some may
    be problems. At most `most_shown` lines are shown. `written` are folders that files go to as lines are taken.
    """

    unit: str
    place_is: str
    header: tuple[str, ...]
    names: tuple[str, ...]
    what: str
    lines: Iterator[Line]
    are_pictures: bool
    most_shown: int | None = None
    written: tuple[Path, ...] = ()


def write_or_show(listing: Listing, out: Path | None, shares_of: tuple[str, ...], *, as_json: bool) -> None:
    """Write all predictions to `out`, or show them, with a column of probabilities of each class of `shares_of`.

    Raises DataError for pictures that could not be read, once all others are there.
    """
    problems: list[str] = []
    lines: Iterable[Line] = _watched(listing.lines, problems.append)
    if out is not None:
        lines = list(lines)
        _write(listing, lines, out, shares_of)
    if as_json:
        for line in lines:
            typer.echo(_json_of(line))
    elif out is None:
        _show(listing, lines)
    else:
        _show_count(listing, len(list(lines)), out)
    if not as_json:
        _show_folders(listing)
    _raise_for(problems)


def _watched(lines: Iterable[Line], tell: Callable[[str], None]) -> Iterator[Line]:
    """Yields lines, and tells of problems among them."""
    for line in lines:
        if line.answer.problem:
            tell(line.answer.problem)
        yield line


def _write(listing: Listing, lines: list[Line], out: Path, shares_of: tuple[str, ...]) -> None:
    """Write the lines as they are, with the predictions beside them; as JSON, the predictions by place."""
    from dlkit.files import write_text

    if out.suffix.lower() == ".jsonl":
        write_text(out, "".join(f"{_json_of(line)}\n" for line in lines))
        return
    names = [*listing.names, *(f"probability_{name}" for name in shares_of)]
    header = [*listing.header, *names, *(["problem"] if listing.are_pictures else [])]
    if taken := [name for name in header[len(listing.header) :] if name in listing.header]:
        raise DataError(f"the table has a column {taken[0]!r} already, which --out would write; rename it")
    write_text(out, _as_csv(header, (_row(line, names, shares_of, listing) for line in lines)))


def _row(line: Line, names: list[str], shares_of: tuple[str, ...], listing: Listing) -> list[str]:
    problem = line.answer.problem
    found = [""] * len(names) if problem else cells_of(line.answer, shares_of)
    return [*line.cells, *found, *([problem] if listing.are_pictures else [])]


def _as_csv(header: list[str], rows: Iterable[list[str]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _json_of(line: Line) -> str:
    return json.dumps({"schema": "dlkit.predict/1", **line.place, **facts_of(line.answer)})


def _show(listing: Listing, lines: Iterable[Line]) -> None:
    """Show a table of the lines that are no problems, as many as may be."""
    from dlkit.cli.console import show_lines, show_table

    answered = (line for line in lines if not line.answer.problem)
    rows = [(line.title, *ranked(line.answer)) for line in islice(answered, listing.most_shown)]
    if rows:
        show_table((listing.place_is, listing.what, "then"), rows, left=3)
    if num_more := sum(1 for _ in answered):
        show_lines([f"and {num_more:,} more {listing.unit}: --out FILE writes all"])


def _show_count(listing: Listing, count: int, out: Path) -> None:
    from dlkit.cli.console import show_lines

    show_lines([f"{listing.what} of {count:,} {listing.unit}: {out}"])


def _show_folders(listing: Listing) -> None:
    from dlkit.cli.console import show_lines

    if listing.written:
        show_lines(["", *(f"written to {folder}" for folder in listing.written)])


def _raise_for(problems: list[str]) -> None:
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        more = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
        listed = "\n  ".join([*problems[:MOST_PROBLEMS], *more])
        raise DataError(f"{len(problems)} of the files cannot be read as images:\n  {listed}")
