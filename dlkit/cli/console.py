"""What people see: the only file that imports rich. Results go to stdout, progress and notes to stderr."""

import contextlib
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from dlkit.cli.table_form import AS_TSV

REFRESH_PER_S = 8
NO_WIDTH = 10_000  # of files and pipes, where nothing is wrapped
WIDE = 110  # columns of a terminal that has room for long bars
MIN_CELL, MARK_WIDTH = 7, 4
# control characters and the marks that turn writing direction, which file and class names could smuggle to a terminal
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Text without control characters and with rich's markup made harmless."""
    return escape(_CONTROL.sub("?", text))


class PatientConsole(Console):
    """A console that falls silent when its reader goes away, where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self.quiet = True


def stdout_console() -> Console:
    """For results. Plain when piped, and never wrapped then, so that files look the same everywhere."""
    is_terminal = sys.stdout.isatty()
    return PatientConsole(
        highlight=False,
        emoji=False,
        force_terminal=is_terminal,
        width=None if is_terminal else NO_WIDTH,
        soft_wrap=not is_terminal,
    )


def terminal_width() -> int | None:
    """The columns of the terminal that results go to; None where they go to a file or a pipe, which has no width."""
    return stdout_console().width if sys.stdout.isatty() else None


def stderr_console() -> Console:
    """For progress, notes and errors."""
    return PatientConsole(stderr=True, highlight=False, emoji=False, soft_wrap=not sys.stderr.isatty())


def show_error(text: str) -> None:
    """An error on stderr: the word once, then the text as it is."""
    console = stderr_console()
    with quiet_pipe():
        console.print(
            f"[bold red]error:[/] {clean(text)}" if "\n" not in text else f"[bold red]error:[/]\n{clean(text)}",
            soft_wrap=True,
        )


def show_lines(lines: Sequence[str], *, console: Console | None = None, is_code: bool = False) -> None:
    """Plain lines. On a terminal those that are too long go on below, broken between words; code stays as it is."""
    console = console or stdout_console()
    for line in lines:
        for part in [line] if is_code or not console.is_terminal else broken_between_words(line, console.width):
            console.print(clean(part), soft_wrap=True)


def broken_between_words(line: str, width: int) -> list[str]:
    """A line as lines of at most `width` columns; a word that is longer, such as a path, is left whole."""
    if cell_len(line) <= width:
        return [line]
    start = line[: len(line) - len(line.lstrip())]
    room = max(width - len(start), MIN_CELL)
    parts = textwrap.wrap(line.strip(), room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [start + part for part in parts]


def build_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, left: int = 1
) -> Table:
    """A table whose first `left` columns are text and whose others are numbers, set to the right."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="bold"
    )
    for index, column in enumerate(columns):
        is_text = index < left
        table.add_column(clean(column), justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    for row in rows:
        table.add_row(*(clean(cell) for cell in row))
    return table


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    left: int = 1,
    optional: Sequence[int] = (),
) -> None:
    """Print a table to stdout. A file or a pipe gets a line for every row, however long; `--tsv` makes such lines too, with tabs.

    For a narrow terminal the `optional` columns, numbered from 0, are left out in that order until the rest fits; then text is
    broken between words, numbers never.
    """
    console = stdout_console()
    headed = [title] if title else []
    if AS_TSV.get():
        console.file.writelines(
            f"{line}\n" for line in (*headed, *tsv_table(columns, rows))
        )  # rich would expand the tabs
        return
    if not console.is_terminal:
        show_lines([*headed, *plain_table(columns, rows, left=left)], console=console)
        return
    left_out: set[int] = set()
    for index in (*optional, None):
        table = build_table(
            without(left_out, columns), [without(left_out, row) for row in rows], title=title, left=left
        )
        least = console.measure(table, options=console.options.update(max_width=NO_WIDTH)).minimum
        if least <= console.width or index is None:
            break
        left_out.add(index)
    console.width = max(console.width, least)
    console.print(table)


def without(left_out: Collection[int], cells: Sequence[str]) -> list[str]:
    """The cells but those at some places."""
    return [cell for index, cell in enumerate(cells) if index not in left_out]


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Headings and rows as lines, the first `left` columns set to the left, with no blanks at the end."""
    lines = [[" ".join(cell.split("\n")) for cell in row] for row in (columns, *rows)]
    widths = [max(cell_len(row[index]) for row in lines) for index in range(len(columns))]

    def padded(index: int, cell: str) -> str:
        blanks = " " * (widths[index] - cell_len(cell))
        return cell + blanks if index < left else blanks + cell

    return ["  ".join(padded(index, cell) for index, cell in enumerate(row)).rstrip() for row in lines]


def tsv_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Headings and rows as lines of cells with tabs between them; what would break a cell in two is a blank."""
    return ["\t".join(_CONTROL.sub("?", re.sub(r"\s", " ", cell)) for cell in row) for row in (columns, *rows)]


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """Output whose reader went away is nobody's business: a run never ends for it."""
    with contextlib.suppress(BrokenPipeError, OSError, ValueError):
        yield


class EpochTable:
    """A table that grows by a row per epoch and stays in the scroll-back; the header is printed with the first row.

    On a terminal too narrow for all columns the first of `optional` are left out.
    """

    def __init__(self, console: Console, optional: Sequence[str] = ()) -> None:
        self._console = console
        self._optional = optional
        self._widths: dict[str, int] = {}

    def add(self, cells: Mapping[str, str], *, mark: str = "") -> None:
        """A row of texts by column name."""
        if not self._widths:
            self._widths = self._pick_columns(cells)
            self._print("  ".join(f"[bold]{name.rjust(width)}[/]" for name, width in self._widths.items()))
        row = "  ".join(cells.get(name, "").rjust(width) for name, width in self._widths.items())
        self._print(f"{row}  [green]{mark}[/]")

    def _pick_columns(self, cells: Mapping[str, str]) -> dict[str, int]:
        widths = {name: max(len(name), len(text), MIN_CELL) for name, text in cells.items()}
        for name in self._optional:
            if (
                not self._console.is_terminal
                or sum(widths.values()) + 2 * len(widths) + MARK_WIDTH <= self._console.width
            ):
                break
            widths.pop(name, None)
        return widths

    def _print(self, line: str) -> None:
        # a terminal cuts a row that is too wide; a file or a pipe has no width
        is_cut = self._console.is_terminal
        self._console.print(line, no_wrap=True, overflow="crop" if is_cut else "ignore", crop=is_cut)


def _bar_width(console: Console) -> int:
    """How wide bars are, so that what stands beside them has room on a terminal of 80 columns."""
    return 24 if console.width >= WIDE else 10


class LiveBars:
    """Two bars at the bottom of the terminal: the epoch and the run, with live metrics. Redrawn by rich's own timer."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=_bar_width(console)),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )
        self._epoch: TaskID | None = None
        self._run: TaskID | None = None

    def start(self, *, total_steps: int, done: int) -> None:
        """Show the bars."""
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self._epoch = self.progress.add_task("epoch", total=None, metrics="")
        self._run = self.progress.add_task("run  ", total=total_steps, completed=done, metrics="")
        self.progress.start()

    def move(self, *, epoch: tuple[int, int], run: int, metrics: str) -> None:
        """Put both bars where they are: steps done and total of the epoch, steps done of the run."""
        if self._epoch is not None and self._run is not None:
            self.progress.update(self._epoch, completed=epoch[0], total=epoch[1], metrics=clean(metrics))
            self.progress.update(self._run, completed=run)

    def say(self, what: str) -> None:
        """Replace the live metrics by a word on what goes on."""
        if self._epoch is not None:
            self.progress.update(self._epoch, metrics=clean(what))

    @property
    def is_running(self) -> bool:
        """Whether the bars are on the screen."""
        return self.progress.live.is_started

    def stop(self) -> None:
        """Take the bars away."""
        self.progress.stop()


class WorkBar:
    """One bar at the bottom of the terminal for a longer piece of work; the next piece takes its place."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=_bar_width(console)),
            TextColumn("{task.completed:.0f} of {task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )
        self._task: TaskID | None = None
        self._piece = ("", 0)

    def show(self, what: str, done: int, total: int) -> None:
        """Put the bar where the work is."""
        piece = (what, total)  # another total is another piece of work, though it may be called the same
        if self._task is None or piece != self._piece:
            if self._task is not None:
                self.progress.remove_task(self._task)
            self._task, self._piece = self.progress.add_task(clean(what), total=total), piece
            self.progress.start()
        self.progress.update(self._task, completed=done)

    def stop(self) -> None:
        """Take the bar away."""
        self.progress.stop()
        if self._task is not None:
            self.progress.remove_task(self._task)
            self._task = None


class LiveLine:
    """One line at the bottom of the terminal that is written over; nothing where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._status = console.status("") if console.is_terminal else None

    def show(self, text: str) -> None:
        """Replace what the line says."""
        if self._status is not None:
            self._status.update(clean(text))
            self._status.start()

    def close(self) -> None:
        """Take the line away."""
        if self._status is not None:
            with quiet_pipe():
                self._status.stop()
