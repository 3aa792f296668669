"""How a training run looks: live bars and a table on a terminal, plain lines elsewhere, JSON lines on request."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from dlkit.cli.console import EpochTable, LiveBars, clean, quiet_pipe, show_lines, show_table, stderr_console
from dlkit.event_lines import metric_value, progress_line, start_lines
from dlkit.events import EpochDone, Evaluating, Event, Note, Progress, RunStarted, Saved, Tested

if TYPE_CHECKING:
    from dlkit.core.training.dry_run import DryRun
    from dlkit.core.training.run import TrainResult

LINE_EVERY_S = 10.0
SKIPPED = {"epoch", "step"}
HEADINGS = {
    "train_s": "time",
    "train_accuracy": "train_acc",
    "val_accuracy": "val_acc",
    "val_ema_loss": "ema_loss",
    "val_ema_accuracy": "ema_acc",
}
LEAST_WANTED = ("time", "lr", "train_acc", "train_loss")


class Display:
    """Draws events on stderr. What goes wrong with the screen never reaches the run."""

    def __init__(self, *, quiet: bool, verbose: bool, as_json: bool) -> None:
        self._console = stderr_console()
        self._quiet, self._verbose, self._as_json = quiet, verbose, as_json
        self._bars = LiveBars(self._console) if self._console.is_terminal and not quiet else None
        self._table = EpochTable(self._console, LEAST_WANTED)
        self._line_at = time.monotonic()
        self._notes: set[str] = set()

    def report(self, event: Event) -> None:
        """Draw an event."""
        with quiet_pipe():
            if self._as_json and isinstance(event, EpochDone | Tested):
                typer.echo(json.dumps(_json_event(event)))
                sys.stdout.flush()
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
            case Evaluating() if self._bars:
                self._bars.say(f"{event.split} {event.done}/{event.total}")
            case EpochDone():
                cells = {"epoch": f"{event.epoch}/{event.epochs}"}
                cells |= {
                    _heading(name): metric_value(name, value)
                    for name, value in event.row.items()
                    if name not in SKIPPED
                }
                self._table.add(cells, mark="best" if event.best else "")
            case Saved() if self._verbose:
                self._console.print(f"saved {clean(str(event.path))}", style="dim", soft_wrap=True)
            case Tested():
                self.close()

    def _start(self, event: RunStarted) -> None:
        for line in start_lines(event):
            self._console.print(clean(line), soft_wrap=True)
        if self._bars:
            self._bars.start(total_steps=event.total_steps, done=event.start_step)

    def _move(self, event: Progress) -> None:
        if self._bars:
            accuracy = f"acc {event.accuracy:.1%} " if event.accuracy is not None else ""
            metrics = f"loss {event.loss:.4f} {accuracy}lr {event.lr:.2g} {event.samples_per_s:,.0f}/s"
            self._bars.move(epoch=(event.step_in_epoch, event.steps_in_epoch), run=event.step, metrics=metrics)
        elif time.monotonic() - self._line_at >= LINE_EVERY_S:
            self._line_at = time.monotonic()
            self._console.print(clean(progress_line(event)))

    def close(self) -> None:
        """Take the live parts off the screen."""
        if self._bars:
            with quiet_pipe():
                self._bars.stop()


def _heading(name: str) -> str:
    """The column of a metric on the screen, where room is short; files have the whole name."""
    return HEADINGS.get(name, name)


@contextmanager
def open_display(*, quiet: bool, verbose: bool, as_json: bool) -> Iterator[Display]:
    """A display that is off the screen again at the end, whatever happens."""
    display = Display(quiet=quiet, verbose=verbose, as_json=as_json)
    try:
        yield display
    finally:
        display.close()


def _json_event(event: EpochDone | Tested) -> dict[str, Any]:
    if isinstance(event, EpochDone):
        return {"schema": "dlkit.train/1", "event": "epoch", "best": event.best, **_no_nan(event.row)}
    return {"schema": "dlkit.train/1", "event": "test", "split": event.split, "metrics": _no_nan(event.metrics)}


def _no_nan(values: Any) -> dict[str, Any]:
    return {name: value if value == value else None for name, value in values.items()}


def show_result(result: "TrainResult", *, as_json: bool) -> None:
    """The end of a run: what came out, where it is, and what to do next."""
    if as_json:
        facts = {
            "status": result.status,
            "test": _no_nan(result.metrics),
            "best": result.best,
            "run_dir": str(result.run_dir),
            "model": str(result.model_path),
        }
        typer.echo(json.dumps({"schema": "dlkit.train/1", "event": "result", **facts}))
        return
    best = result.best
    lines = []
    if result.status == "early_stopped":
        lines.append(f"stopped early after epoch {len(result.history)}")
    elif result.status == "max_time":
        lines.append(
            f"time is up after {len(result.history)} epochs; "
            "go on with: "
            + shlex.join(
                ["dlkit", "train", str(result.run_dir / "config.resolved.yaml"), "--resume", str(result.run_dir)]
            )
        )
    if best.get("value") is not None:
        lines.append(
            f"best {best['metric']} {metric_value(str(best['metric']), best['value'])} in epoch {best['epoch']}"
        )
    if result.metrics:
        lines.append(
            "test  " + "  ".join(f"{name} {metric_value(name, value)}" for name, value in result.metrics.items())
        )
    show_lines([*lines, f"model {result.model_path}", "", "Next:", *_next_steps(result)])


def _next_steps(result: "TrainResult") -> list[str]:
    """Commands that fit what was trained, ready to be pasted into a shell."""
    model, board = shlex.quote(str(result.model_path)), result.run_dir / "tb"
    is_classification = any("train_accuracy" in row for row in result.history)
    what = "per-class numbers and the confusion matrix" if is_classification else "mse, rmse, mae and r2"
    lines = [f"  dlkit eval {model}                  {what}"]
    if result.input_kind == "image":
        lines.append(f"  dlkit predict {model} IMAGE...      use it")
    if board.is_dir():
        lines.append(f"  tensorboard --logdir {shlex.quote(str(board))}")
    return lines


def show_dry_run(dry: "DryRun", *, as_json: bool) -> None:
    """What a run would be."""
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.train/1", "event": "dry-run", **asdict(dry)}))
        return
    rows = [
        (row.name, row.type, "x".join(map(str, row.output_shape or ())), f"{row.num_parameters:,}")
        for row in dry.layers
    ]
    show_table(("layer", "type", "output", "parameters"), rows, title=dry.model, left=3)
    planned = (
        f"{dry.first_lr:.3g} first, {dry.peak_lr:.3g} peak, {dry.last_lr:.3g} last"
        if dry.is_lr_planned
        else f"{dry.first_lr:.3g}"
    )
    frozen = "" if dry.num_trainable == dry.num_parameters else f" ({dry.num_trainable:,} trainable)"
    show_lines(
        [
            "",
            f"parameters     {dry.num_parameters:,}{frozen}",
            f"device         {dry.device}, {dry.precision}",
            f"samples        {', '.join(f'{count:,} {name}' for name, count in dry.split_sizes.items())}",
            f"steps          {dry.steps_per_epoch:,} per epoch, {dry.total_steps:,} in all",
            f"learning rate  {planned}",
            f"first losses   {', '.join(f'{loss:.4f}' for loss in dry.losses)}",
            f"memory         {dry.memory_bytes / 2**20:,.0f} MiB at the peak of two steps",
            f"time           {_duration(dry.estimate_s)} estimated ({dry.step_s * 1000:.0f} ms per step, measured once)",
            "",
            "Nothing was written.",
        ]
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
