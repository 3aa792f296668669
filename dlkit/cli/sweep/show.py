"""A sweep on the screen: a table that grows by a row per trial, a line for the one that runs, and what came out."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from dlkit.cli.console import EpochTable, LiveLine, clean, quiet_pipe, show_lines, show_table, stderr_console
from dlkit.cli.next_steps import NextStep, show_next_steps
from dlkit.event_lines import metric_value, sweep_line, trial_line
from dlkit.events import Emit, EpochDone, Event, Note, Progress, SweepStarted, TrialDone, TrialStarted
from dlkit.files import without_nan
from dlkit.quantities import counted
from dlkit.signals import stopped_by_signals

if TYPE_CHECKING:
    from dlkit.sweep import SweepResult, TrialRow

MOST_BEST = 5  # rows of the table at the end
LEAST_WANTED = ("deviation", "epochs")


class TrialDisplay:
    """Draws the events of a sweep on stderr; of the runs in it the notes, each once, and where the one that runs is."""

    def __init__(self, *, quiet: bool) -> None:
        self._console, self._quiet = stderr_console(), quiet
        self._table = EpochTable(self._console, LEAST_WANTED)
        self._line = LiveLine(self._console)
        self._notes: set[str] = set()
        self._trial, self._best = "", ""

    def emit(self, event: Event) -> None:
        """Draw an event."""
        if not self._quiet:
            with quiet_pipe():
                self._draw(event)

    def _draw(self, event: Event) -> None:
        match event:
            case SweepStarted():
                show_lines([sweep_line(event)], console=self._console)
            case TrialStarted():
                self._trial = trial_line(event)
                self._line.show(f"{self._trial}{self._best}")
            case Progress():
                self._line.show(f"{self._trial}  epoch {event.epoch}/{event.epochs} loss {event.loss:.4f}{self._best}")
            case EpochDone():
                self._line.show(f"{self._trial}  epoch {event.epoch}/{event.epochs} done{self._best}")
            case TrialDone():
                self._add(event)
            case Note() if event.text not in self._notes:
                self._notes.add(event.text)
                self._console.print(f"[yellow]note:[/] {clean(event.text)}")

    def _add(self, event: TrialDone) -> None:
        value = metric_value(event.metric, event.value)
        cells = {"trial": str(event.number), **event.values, event.metric: value}
        cells |= {} if event.deviation is None else {"deviation": metric_value(event.metric, event.deviation)}
        cells |= {"epochs": str(event.epochs), "": event.status}
        self._table.add({name: clean(cell) for name, cell in cells.items()}, mark="best" if event.best else "")
        if event.best:
            self._best = f"  (best {value}, trial {event.number})"

    def close(self) -> None:
        """Take the line off the screen."""
        self._line.close()


@contextmanager
def open_trials(*, quiet: bool) -> Iterator[Emit]:
    """What a sweep reports to; off the screen again at the end, whatever happens."""
    display = TrialDisplay(quiet=quiet)
    with stopped_by_signals():
        try:
            yield display.emit
        finally:
            display.close()


def show_result(result: "SweepResult", *, as_json: bool) -> None:
    """What a sweep has come to, and what to do next."""
    if as_json:
        typer.echo(json.dumps(without_nan(result.to_json())))
        return
    counts = {status: sum(row.status == status for row in result.trials) for status in _STATUSES}
    counted_trials = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    show_lines(
        [f"{counted(len(result.trials), 'trial')} ({counted_trials}), {counted(result.epochs, 'epoch')} trained"]
    )
    best = sorted(
        (row for row in result.trials if row.status == "finished"),
        key=lambda row: (row.value or 0) * (1 if result.mode == "min" else -1),
    )[:MOST_BEST]
    if best:
        _show_best(best, result.metric)
        _show_importance(result)
        show_lines([f"best config {result.folder / 'best.yaml'}"])
        config = shlex.quote(str(result.folder / "best.yaml"))
        show_next_steps([NextStep(f"dlkit train {config}", "train with the best values")])
    for row in [row for row in result.trials if row.error][:MOST_BEST]:
        show_lines([f"trial {row.number} {row.status}: {row.error}"])


_STATUSES = ("finished", "pruned", "diverged", "failed", "running")


def _show_best(rows: "list[TrialRow]", metric: str) -> None:
    from dlkit.sweep import shown_values

    settings = [shown_values(row.settings) for row in rows]
    tests = [name for name in rows[0].test if name != "loss"][:1]
    has_deviation = any(row.deviation is not None for row in rows)
    columns = [
        "trial",
        *settings[0],
        metric,
        *(["deviation"] if has_deviation else []),
        *(f"test {name}" for name in tests),
    ]
    table = []
    for row, values in zip(rows, settings, strict=True):
        cells = [str(row.number), *values.values(), metric_value(metric, row.value)]
        cells += [metric_value(metric, row.deviation)] if has_deviation else []
        table.append([*cells, *(metric_value(name, row.test.get(name)) for name in tests)])
    show_table(columns, table)


def _show_importance(result: "SweepResult") -> None:
    if result.importance:
        show_lines(["importance  " + "  ".join(f"{key} {share:.0%}" for key, share in result.importance.items())])
