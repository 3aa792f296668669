"""Traces as files and JSON values: every step in CSV and JSON, a picture by matplotlib."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from dlkit.files import without_nan
from dlkit.schedules.auditing import Finding
from dlkit.schedules.lr_schedule import shown_options
from dlkit.schedules.result_files import save_result
from dlkit.schedules.schedule_trace import Trace, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_traces(path: Path, traces: Sequence[Trace], findings: Sequence[Iterable[Finding]], *, is_log: bool) -> None:
    """Write traces to a file. Raises UsageError for an unknown ending, OutputError if it cannot be written."""
    save_result(
        path,
        table=lambda: _table(traces),
        content=lambda: traces_as_json(traces, findings),
        figure=lambda: _draw(traces, is_log=is_log),
    )


def _table(traces: Sequence[Trace]) -> Iterator[Sequence[object]]:
    """`step, epoch, lr`, and `momentum` if it is cycled; with several traces the columns have their names in front."""
    columns = list(_columns(traces))
    schedule = traces[0].schedule
    yield ["step", "epoch", *(name for name, _ in columns)]
    for step in range(schedule.total_steps):
        yield [step, step // schedule.steps_per_epoch, *(repr(values[step]) for _, values in columns)]


def _columns(traces: Sequence[Trace]) -> Iterator[tuple[str, Sequence[float]]]:
    for name, trace in zip(unique_names(traces), traces, strict=True):
        prefix = f"{name}." if len(traces) > 1 else ""
        yield f"{prefix}lr", trace.lrs
        if trace.momenta is not None:
            yield f"{prefix}momentum", trace.momenta


def unique_names(traces: Sequence[Trace]) -> list[str]:
    """A name for each trace, numbered if two schedules have the same."""
    names = [trace.name for trace in traces]
    return [
        name if names.count(name) == 1 else f"{name}_{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def traces_as_json(traces: Sequence[Trace], findings: Sequence[Iterable[Finding]]) -> dict[str, Any]:
    """Everything about the traces as JSON values; numbers that are not finite become null."""
    schedule = traces[0].schedule
    content = {
        "schema": "dlkit.lr-plot/1",
        "convention": "lr[k] is the value used by the k-th optimizer.step(), k from 0",
        "total_steps": schedule.total_steps,
        "steps_per_epoch": schedule.steps_per_epoch,
        "schedules": [_trace_as_json(trace, remarks) for trace, remarks in zip(traces, findings, strict=True)],
    }
    finite: dict[str, Any] = without_nan(content)
    return finite


def _trace_as_json(trace: Trace, findings: Iterable[Finding]) -> dict[str, Any]:
    schedule = trace.schedule
    content: dict[str, Any] = {
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
        content["momentum"] = list(trace.momenta)
    if trace.metrics is not None:
        content["metrics"] = list(trace.metrics)
        content["falls"] = list(trace.falls)
    return content


def _draw(traces: Sequence[Trace], *, is_log: bool) -> "Figure":
    """A picture of the traces; a cycled momentum has a second plot below."""
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
