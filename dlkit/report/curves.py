"""Curves of training as charts: loss, metrics, learning rate and throughput by optimizer step; of several runs one over the other."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from dlkit.report.blocks import Chart
from dlkit.report.words import metric_title, plain
from dlkit.run_folders import Row, StoredRun
from dlkit.tasks import metric_of

MOST_POINTS = 1500  # of one curve; more than a screen has columns
_WORDS = {"train": "train", "val": "validation", "val_ema": "validation, moving average"}
_DASHES = {"train": "dot", "val": "solid", "val_ema": "dash"}


def curve_charts(runs: Sequence[StoredRun]) -> list[Chart]:
    """Returns a chart for the loss, one for each other metric of epochs, the learning rate and the throughput; empty ones are left out."""
    names = dict.fromkeys(metric for run in runs for row in run.epochs for metric in map(_metric_in, row) if metric)
    charts = [_metric_chart(runs, name) for name in sorted(names, key=lambda name: name != "loss")]
    charts += [
        Chart("Learning rate", list(_traces(runs, _rates)), _axes("learning rate", ".3g"), can_be_log=True),
        Chart("Throughput", list(_traces(runs, _throughput)), _axes("samples/s", ",.0f", rangemode="tozero")),
    ]
    return [chart for chart in charts if any(trace["x"] for trace in chart.traces)]


def _metric_in(column: str) -> str:
    """The metric of a column of metrics: `accuracy` of val_ema_accuracy, nothing of train_s."""
    prefix, metric = _split(column)
    return metric if prefix and metric != "s" else ""


def _split(column: str) -> tuple[str, str]:
    prefix = next((found for found in ("val_ema", "val", "train") if column.startswith(f"{found}_")), "")
    return prefix, column.removeprefix(f"{prefix}_") if prefix else column


def _metric_chart(runs: Sequence[StoredRun], name: str) -> Chart:
    metric, title = metric_of(name), metric_title(name)
    traces = [trace for place, run in enumerate(runs) for trace in _curves(run, name, place if len(runs) > 1 else None)]
    if name == "loss" and len(runs) == 1 and len(runs[0].metrics.steps) > len(runs[0].epochs):
        traces.insert(0, _step_losses(runs[0]))
    axes = _axes(title, ".2%" if metric.is_percent else ".4g")
    return Chart(
        title if title[1:2].isupper() else title[:1].upper() + title[1:], traces, axes, can_be_log=name == "loss"
    )


def _curves(run: StoredRun, name: str, place: int | None) -> Iterator[dict[str, Any]]:
    """Yields a metric of a run in training and in validation; of one among several what validation says, and both losses."""
    columns = dict.fromkeys(column for row in run.epochs for column in row if _metric_in(column) == name)
    for column in sorted(columns, key=_split):
        kind = _split(column)[0]
        if place is not None and kind == "train" and len(columns) > 1 and name != "loss":
            continue
        rows = [row for row in run.epochs if row.get(column) is not None]
        label = _WORDS[kind] if place is None else f"{plain(run.name)}, {_WORDS[kind]}"
        group = list(_WORDS).index(kind) if place is None else place
        line = _line([row.get("step") for row in rows], [row[column] for row in rows], label, group)
        mode = "lines+markers" if len(rows) < 3 else "lines"
        yield line | {"line": {"dash": _DASHES[kind], "width": 2}, "mode": mode}


def _step_losses(run: StoredRun) -> dict[str, Any]:
    """The training loss step by step, of many steps their means."""
    rows = [row for row in run.metrics.steps if row.get("loss") is not None and "step" in row]
    size = -(-len(rows) // MOST_POINTS) or 1
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    means = [sum(row["loss"] for row in part) / len(part) for part in parts]
    return _line([part[-1]["step"] for part in parts], means, "train, each step", 0) | {
        "line": {"width": 1},
        "opacity": 0.4,
    }


def _traces(
    runs: Sequence[StoredRun], points: Callable[[StoredRun], Iterator[tuple[float, float]]]
) -> Iterator[dict[str, Any]]:
    for place, run in enumerate(runs):
        found = list(points(run))
        yield _line([x for x, _ in found], [y for _, y in found], plain(run.name), place)


def _line(x: Sequence[Any], y: Sequence[Any], name: str, group: int) -> dict[str, Any]:
    """A trace of at most MOST_POINTS; those of a group have one colour, and go together in the legend."""
    every = -(-len(x) // MOST_POINTS) or 1
    kept = sorted({*range(0, len(x), every), len(x) - 1} - {-1})
    points = {"x": [x[k] for k in kept], "y": [y[k] for k in kept]}
    return {"type": "scatter", "mode": "lines", "name": name, **points, "legendgroup": name, "meta": {"group": group}}


def _rates(run: StoredRun) -> Iterator[tuple[float, float]]:
    rows = run.metrics.steps or [row for row in run.epochs if row.get("lr") is not None]
    return ((row["step"], row["lr"]) for row in rows if "step" in row and "lr" in row)


def _throughput(run: StoredRun) -> Iterator[tuple[float, float]]:
    """Samples per second of each epoch, by the steps that it took."""
    samples, steps = (run.facts.get("samples") or {}).get("train"), run.facts.get("steps_per_epoch")
    first: Row = {"step": 0, "train_s": 0.0}
    rows = [first, *run.epochs]
    if not (isinstance(samples, int) and isinstance(steps, int) and steps):
        return
    for before, row in pairwise(rows):
        seconds = (row.get("train_s") or 0) - (before.get("train_s") or 0)
        taken = (row.get("step") or 0) - (before.get("step") or 0)
        if seconds > 0 and taken > 0:
            yield row["step"] or 0, taken * samples / steps / seconds


def _axes(title: str, digits: str, **more: str) -> dict[str, Any]:
    percent = {"tickformat": ".0%"} if digits.endswith("%") else {}
    return {
        "xaxis": {"title": {"text": "optimizer step"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": title}, "hoverformat": digits, **percent, **more},
        "hovermode": "x unified",
    }
