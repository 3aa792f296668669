"""What people see: the only file that imports rich. Results go to stdout, progress and notes to stderr."""

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

REFRESH_PER_S = 8
FILE_WIDTH = 100
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
    """For results. Plain when piped, and of a fixed width then, so that files look the same everywhere."""
    is_terminal = sys.stdout.isatty()
    return PatientConsole(
        highlight=False, emoji=False, width=None if is_terminal else FILE_WIDTH, soft_wrap=not is_terminal
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


def show_lines(lines: Sequence[str], *, console: Console | None = None) -> None:
    """Plain lines."""
    for line in lines:
        (console or stdout_console()).print(clean(line), soft_wrap=True)


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
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, left: int = 1
) -> None:
    """Print a table to stdout. For a narrow terminal text is broken between words, numbers never."""
    console, table = stdout_console(), build_table(columns, rows, title=title, left=left)
    least = console.measure(table, options=console.options.update(max_width=FILE_WIDTH)).minimum
    console.width = max(console.width, least)
    console.print(table)


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


class LiveBars:
    """Two bars at the bottom of the terminal: the epoch and the run, with live metrics. Redrawn by rich's own timer."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
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
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f} of {task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )
        self._task: TaskID | None = None
        self._what = ""

    def show(self, what: str, done: int, total: int) -> None:
        """Put the bar where the work is."""
        if self._task is None or what != self._what:
            if self._task is not None:
                self.progress.remove_task(self._task)
            self._task, self._what = self.progress.add_task(clean(what), total=total), what
            self.progress.start()
        self.progress.update(self._task, completed=done, total=total)

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
