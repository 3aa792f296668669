"""The tables and curves of `dlkit compare`, and its JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dlkit.cli.console import show_lines, show_table, stderr_console
from dlkit.cli.short_settings import short_setting
from dlkit.errors import UsageError
from dlkit.event_lines import metric_value
from dlkit.files import to_json
from dlkit.run_comparison import MetricDifference, RunComparison, RunGroup
from dlkit.run_folders import FREE_SETTINGS, StoredRun, differing_settings, is_among
from dlkit.schedules import Look, axis_line, label_line, plot_series
from dlkit.suggestions import did_you_mean
from dlkit.tasks import metric_of

_BY_SAMPLES = (
    "Judged by the samples that both networks answered: McNemar's test for accuracy, 2,000 draws of the samples for the "
    "rest. That is about these networks; whether their settings are better takes several seeds of each."
)
_BY_SEEDS = "Judged over seeds, by Welch's t-test; means and standard deviations of the seeds of a group."


def show_comparison(compared: RunComparison, metric: str | None, look: Look) -> None:
    """Print groups, settings that differ, metrics, their differences, and curves of a metric."""
    curves = curve_lines(compared.groups, metric, look)
    letters = [group.letter for group in compared.groups]
    rows = [(group.letter, str(run.path), run.status) for group in compared.groups for run in group.runs]
    show_table(("", "run", "status"), rows, left=3)
    settings = differing(compared.groups)
    if settings:
        show_lines([""])
        show_table(("setting", *letters), [(key, *map(short_setting, values)) for key, values in settings.items()])
    elif len(letters) == 1:
        show_lines(["", "these runs differ in nothing but their seeds"])
    show_lines([""])
    told = [(name, *(_value_text(group, name) for group in compared.groups)) for name in compared.metrics]
    show_table(("metric", *letters), told)
    _show_differences(compared)
    show_lines(curves, is_code=True)
    problems = [problem for group in compared.groups for run in group.runs for problem in run.problems]
    show_lines([f"note: {problem}" for problem in problems], console=stderr_console())


def _show_differences(compared: RunComparison) -> None:
    judged = [each for each in compared.differences if each.p is not None]
    if judged:
        show_lines([""])
        first = compared.groups[0].letter
        rows = [(f"{each.letter} - {first}", each.metric, *_difference_cells(each)) for each in judged]
        show_table(("", "metric", "difference", "from", "to", "p", ""), rows, left=2, optional=(3, 4))
        show_lines(["", _BY_SEEDS if compared.over_seeds else _BY_SAMPLES])
    reasons: dict[str, list[str]] = {}
    for each in compared.differences:
        if each.p is None:
            reasons.setdefault(each.why, []).append(f"{each.metric} of {each.letter}")
    show_lines([f"cannot tell of {', '.join(names)}: {why}" for why, names in reasons.items()])


def differing(groups: Sequence[RunGroup]) -> dict[str, list[Any]]:
    """Returns the settings in which groups differ, without those that change nothing."""
    found = differing_settings([group.runs[0].settings for group in groups])
    is_several = any(len(group.runs) > 1 for group in groups)
    dropped = FREE_SETTINGS | ({"seed", "data.normalize"} if is_several else set())
    return {key: values for key, values in found.items() if not is_among(key, dropped)}


def _value_text(group: RunGroup, metric: str) -> str:
    mean, deviation = group.mean(metric), group.deviation(metric)
    if math.isnan(mean):
        return "-"
    spread = "" if deviation is None else f" ± {metric_value(metric, deviation)}"
    return f"{metric_value(metric, mean)}{spread}"


def _difference_cells(each: MetricDifference) -> list[str]:
    p = each.p or 0.0
    numbers = [_signed(each.metric, value) for value in (each.difference, each.low, each.high)]
    return [*numbers, "< 0.001" if p < 0.001 else f"{p:.3f}", each.verdict]


def _signed(metric: str, value: float | None) -> str:
    text = metric_value(metric, value)
    return f"+{text}" if value is not None and value > 0 else text


def curve_lines(groups: Sequence[RunGroup], metric: str | None, look: Look) -> list[str]:
    """Returns a metric over the epochs of all runs, drawn with the letters of their groups. Raises UsageError for one that no run has."""
    runs = [(group.letter[0], run) for group in groups for run in group.runs if run.epochs]
    known = list(dict.fromkeys(name for _, run in runs for row in run.epochs for name in row))
    name = metric or next((str(run.best["metric"]) for _, run in runs if run.best), "train_loss")
    if metric is not None and metric not in known:
        raise UsageError(
            f"--metric {metric}: no run has it.{did_you_mean(metric, known)} There are: {', '.join(known)}"
        )
    length = max((int(row.get("epoch") or 0) for _, run in runs for row in run.epochs), default=0)
    series = [(letter, values) for letter, run in runs if (values := _by_epoch(run, name, length))]
    if not series or length < 2:
        return []
    curves = [_drawn(values, look.num_columns) for _, values in series]
    plot = plot_series(curves, look, from_zero=False, letters="".join(letter for letter, _ in series))
    last = look.num_columns - 1
    ticks = {0: "1", last: str(length)} | ({last // 2: f"{(length + 1) / 2:.3g}"} if length > 2 else {})
    heading = f"{name} by epoch ({'less' if metric_of(name).mode == 'min' else 'more'} is better)"
    axes = [axis_line(ticks, look.num_columns), label_line("epoch", ticks, look.num_columns)]
    return look.encode(["", heading, *plot, *axes])


def _by_epoch(run: StoredRun, metric: str, length: int) -> list[float]:
    """The values of epochs 1 to `length`, held where an epoch was not validated, NaN before the first and after the last."""
    found = {int(row["epoch"] or 0): row.get(metric) for row in run.epochs if "epoch" in row}
    values, value, last = [], math.nan, max(found, default=0)
    for epoch in range(1, length + 1):
        told = found.get(epoch)
        value = math.nan if epoch > last else value if told is None else float(told)
        values.append(value)
    return [] if all(map(math.isnan, values)) else values


def _drawn(values: Sequence[float], num_columns: int) -> list[float]:
    """The values at as many places, with straight lines between epochs."""
    drawn = []
    for column in range(num_columns):
        place = column * (len(values) - 1) / (num_columns - 1)
        before = min(int(place), len(values) - 2)
        drawn.append(values[before] + (place - before) * (values[before + 1] - values[before]))
    return drawn


def comparison_as_json(compared: RunComparison) -> str:
    """Returns groups with their runs, settings that differ, metrics, and differences from the first group."""
    groups = [
        {
            "letter": group.letter,
            "runs": [str(run.path) for run in group.runs],
            "metrics": {
                name: {"values": group.values(name), "mean": group.mean(name), "deviation": group.deviation(name)}
                for name in compared.metrics
            },
        }
        for group in compared.groups
    ]
    differences = [asdict(each) | {"verdict": each.verdict} for each in compared.differences]
    facts = {"judged_by": "seeds" if compared.over_seeds else "samples", "groups": groups}
    return to_json(
        {"schema": "dlkit.compare/1", **facts, "settings": differing(compared.groups), "differences": differences}
    )
