"""Traces as files: CSV and JSON with every step, PNG, SVG or PDF through matplotlib."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from dlkit.files import PICTURES, check_ending, save_figure, without_nan, write_text
from dlkit.schedules.audit import Finding
from dlkit.schedules.schedule import shown_options
from dlkit.schedules.trace import Trace, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "dlkit.lr-plot/1"
ENDINGS = (".csv", ".json", *PICTURES)


def save_traces(path: Path, traces: Sequence[Trace], findings: Sequence[Iterable[Finding]], *, is_log: bool) -> None:
    """Write a file of the kind its suffix names.

    Raises UsageError for a suffix that is none of ours, OutputError when the file cannot be written.
    """
    check_ending(path, ENDINGS)
    if path.suffix.lower() in PICTURES:
        save_figure(path, _draw(traces, is_log=is_log))
    elif path.suffix.lower() == ".json":
        write_text(path, json.dumps(as_plain(traces, findings), allow_nan=False) + "\n")
    else:
        write_text(path, _as_csv(traces))


def _as_csv(traces: Sequence[Trace]) -> str:
    """`step, epoch, lr` and `momentum` where it moves; several traces have their names in front of the columns."""
    columns = list(_columns(traces))
    per_epoch = traces[0].schedule.steps_per_epoch
    heading = ["step", "epoch", *(name for name, _ in columns)]
    rows = (
        [step, step // per_epoch, *(repr(values[step]) for _, values in columns)]
        for step in range(traces[0].schedule.total_steps)
    )
    return csv_text(heading, rows)


def csv_text(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV."""
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows([heading, *rows])
    return file.getvalue()


def _columns(traces: Sequence[Trace]) -> Iterable[tuple[str, Sequence[float]]]:
    for name, trace in zip(unique_names(traces), traces, strict=True):
        prefix = f"{name}." if len(traces) > 1 else ""
        yield f"{prefix}lr", trace.lrs
        if trace.momenta is not None:
            yield f"{prefix}momentum", trace.momenta


def unique_names(traces: Sequence[Trace]) -> list[str]:
    """A name for each trace, numbered where two schedules have the same."""
    names = [trace.name for trace in traces]
    return [
        name if names.count(name) == 1 else f"{name}_{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def as_plain(traces: Sequence[Trace], findings: Sequence[Iterable[Finding]]) -> dict[str, Any]:
    """Everything about the traces as JSON values."""
    schedule = traces[0].schedule
    plain = {
        "schema": SCHEMA,
        "convention": "lr[k] is the value used by the k-th optimizer.step(), k from 0",
        "total_steps": schedule.total_steps,
        "steps_per_epoch": schedule.steps_per_epoch,
        "schedules": [_plain_trace(trace, remarks) for trace, remarks in zip(traces, findings, strict=True)],
    }
    return {key: without_nan(value) for key, value in plain.items()}


def _plain_trace(trace: Trace, findings: Iterable[Finding]) -> dict[str, Any]:
    schedule = trace.schedule
    plain: dict[str, Any] = {
        "name": trace.name,
        "options": shown_options(schedule.curve),
        "unit": schedule.unit,
        "warmup_steps": schedule.warmup_steps,
        "warmup_from": schedule.warmup_from,
        "base_lr": trace.base_lr,
        "summary": asdict(summarize(trace)),
        "findings": [asdict(finding) for finding in findings],
        "lr": list(trace.lrs),
    }
    if trace.momenta is not None:
        plain["momentum"] = list(trace.momenta)
    if trace.metrics is not None:
        plain["metrics"] = list(trace.metrics)
        plain["falls"] = list(trace.falls)
    return plain


def _draw(traces: Sequence[Trace], *, is_log: bool) -> "Figure":
    """A picture of the traces; momentum, where it moves, in a second plot below."""
    from matplotlib.figure import Figure

    cycling = [trace for trace in traces if trace.momenta is not None]
    figure = Figure(figsize=(8, 5.5 if cycling else 4), layout="constrained")
    axes = figure.subplots(2 if cycling else 1, sharex=True, squeeze=False, height_ratios=[3, 1] if cycling else [1])
    rates = axes[0][0]
    for name, trace in zip(unique_names(traces), traces, strict=True):
        rates.step(range(len(trace.lrs)), trace.lrs, where="post", label=name)
        if trace.momenta is not None:
            axes[1][0].step(range(len(trace.momenta)), trace.momenta, where="post", label=name)
    rates.set(ylabel="learning rate", yscale="log" if is_log else "linear")
    rates.set_title(fill(_title(traces), 100), fontsize=9)
    if not is_log:
        rates.set_ylim(bottom=0)
    if len(traces) > 1:
        rates.legend()
    if cycling:
        axes[1][0].set(ylabel="momentum")
    axes[-1][0].set(xlabel="optimizer step")
    for row in axes:
        row[0].grid(alpha=0.3)
    return figure


def _title(traces: Sequence[Trace]) -> str:
    schedule = traces[0].schedule
    return schedule.describe() if len(traces) == 1 else f"{len(traces)} schedules, {schedule.total_steps:,} steps"
