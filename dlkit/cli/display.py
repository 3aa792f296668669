"""What tasks report, drawn on stderr: live bars and a table on a terminal, plain lines elsewhere, JSON lines on request."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TypeVar

import typer

from dlkit.cli.console import EpochTable, LiveBars, WorkBar, clean, quiet_pipe, show_lines, stderr_console
from dlkit.event_lines import metric_value, progress_line, start_lines
from dlkit.events import EpochDone, Evaluating, Event, Note, Progress, RunStarted, Saved, Tested, Throttle, Working
from dlkit.files import without_nan
from dlkit.signals import stopped_by_signals

T = TypeVar("T")
LINE_EVERY_S = 10.0
QUIET_S = 3.0  # a command that is done by then says nothing of its phases
SKIPPED = {"epoch", "step"}
SHORTENED = {"train_s": "time", "val_ema": "ema", "accuracy": "acc", "micro_f1": "f1"}
LEAST_WANTED = ("time", "lr", "train_acc", "train_f1", "train_loss")


class Display:
    """Draws events on stderr. What goes wrong with the screen never reaches the run."""

    def __init__(self, *, quiet: bool, verbose: bool, as_json: bool) -> None:
        self._console = stderr_console()
        self._results = sys.stdout  # also while what others print goes aside
        self._quiet, self._verbose, self._as_json = quiet, verbose, as_json
        has_screen = self._console.is_terminal and not quiet
        self._bars = LiveBars(self._console) if has_screen else None
        self._work = WorkBar(self._console) if has_screen else None
        self._table = EpochTable(self._console, LEAST_WANTED)
        self._lines = Throttle(LINE_EVERY_S)
        self._notes: set[str] = set()
        self._phase, self._started = "", time.monotonic()

    def emit(self, event: Event) -> None:
        """Draw an event."""
        with quiet_pipe():
            if self._as_json and isinstance(event, EpochDone | Tested):
                typer.echo(json.dumps(_json_event(event)), file=self._results)
                self._results.flush()
        with quiet_pipe():
            if not self._quiet:
                self._draw(event)

    def _draw(self, event: Event) -> None:
        match event:
            case Note() if event.text not in self._notes:
                self._notes.add(event.text)
                self._console.print(f"[yellow]note:[/] {clean(event.text)}")
            case RunStarted():
                self._start(event)
            case Progress():
                self._move(event)
            case Evaluating() if self._bars and self._bars.is_running:
                self._bars.say(f"{event.split} {event.done}/{event.total}")
            case Evaluating():
                self._show_work(f"evaluating on {event.split}", event.done, event.total)
            case Working():
                self._show_work(event.what, event.done, event.total)
            case EpochDone():
                self._table.add(epoch_cells(event), mark="best" if event.best else "")
            case Saved() if self._verbose:
                self._console.print(f"saved {clean(str(event.path))}", style="dim", soft_wrap=True)
            case Tested():
                self.close()

    def _show_work(self, what: str, done: int, total: int) -> None:
        if self._work:
            if self._bars:
                self._bars.stop()
            self._work.show(what, done, total)
        elif self._is_new(what) or self._lines.is_due():
            self._phase = what
            self._console.print(clean(f"{what}: {done} of {total}" if total > 1 else what))

    def _is_new(self, what: str) -> bool:
        """Whether this is another piece of work, in a command that takes longer than a moment."""
        return what != self._phase and time.monotonic() - self._started > QUIET_S

    def _start(self, event: RunStarted) -> None:
        if self._work:
            self._work.stop()
        show_lines(start_lines(event), console=self._console)
        if self._bars:
            self._bars.start(total_steps=event.total_steps, done=event.start_step)

    def _move(self, event: Progress) -> None:
        if self._bars:
            value = f"{heading(event.metric)} {metric_value(event.metric, event.value)}"
            metrics = f"loss {event.loss:.4f} {value} lr {event.lr:.2g} {event.samples_per_s:,.0f}/s"
            self._bars.move(epoch=(event.step_in_epoch, event.steps_in_epoch), run=event.step, metrics=metrics)
        elif self._lines.is_due():
            self._console.print(clean(progress_line(event)))

    def close(self) -> None:
        """Take the live parts off the screen."""
        for bars in (self._bars, self._work):
            if bars:
                with quiet_pipe():
                    bars.stop()


def epoch_cells(event: EpochDone) -> dict[str, str]:
    """Returns the cells of an epoch by their columns."""
    cells = {heading(name): metric_value(name, value) for name, value in event.row.items() if name not in SKIPPED}
    return {"epoch": f"{event.epoch}/{event.epochs}"} | cells


def heading(name: str) -> str:
    """Returns the column of a metric on the screen, where room is short; files have the whole name."""
    for word, short in SHORTENED.items():
        name = name.replace(word, short)
    return name


@contextmanager
def open_display(*, quiet: bool, verbose: bool, as_json: bool) -> Iterator[Display]:
    """A display that is off the screen again at the end, whatever happens, a signal included."""
    display = Display(quiet=quiet, verbose=verbose, as_json=as_json)
    with stopped_by_signals():
        try:
            yield display
        finally:
            display.close()


@contextmanager
def prints_aside() -> Iterator[None]:
    """What a user's own code prints meanwhile goes to stderr, so that stdout holds results alone."""
    with redirect_stdout(sys.stderr):
        yield


def made_aside(items: Iterable[T]) -> Iterator[T]:
    """The items, while what is printed by the code that makes them goes to stderr."""
    source = iter(items)
    while True:
        with prints_aside():
            try:
                item = next(source)
            except StopIteration:
                return
        yield item


def _json_event(event: EpochDone | Tested) -> dict[str, Any]:
    if isinstance(event, EpochDone):
        return {"schema": "dlkit.train/1", "event": "epoch", "best": event.best, **without_nan(event.row)}
    return {"schema": "dlkit.train/1", "event": "test", "split": event.split, "metrics": without_nan(event.metrics)}
