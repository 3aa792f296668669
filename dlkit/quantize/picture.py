"""Score, size and latency before and after, as one picture."""

from functools import partial
from pathlib import Path
from typing import Any

from dlkit.core.benchmark import Speeds
from dlkit.files import save_figure
from dlkit.quantize.report import Outcome
from dlkit.tasks import TRAITS

BEFORE, AFTER = "#8a8f98", "#1f77b4"


def save_picture(path: Path, outcome: Outcome) -> None:
    """Write bars of the score, file size and latency of both networks as a PNG; what was not measured has no panel."""
    from matplotlib.figure import Figure  # takes half a second to import

    speeds = outcome.comparison.speeds
    draws = [partial(_draw_scores, outcome=outcome)] if _scores(outcome) else []
    draws.append(partial(_draw_sizes, outcome=outcome))
    if speeds is not None:
        batches = speeds.batches
        draws += [partial(_draw_speeds, speeds=speeds, batch=batch) for batch in batches]
    num_rows = -(-len(draws) // 2)
    figure = Figure(figsize=(11, 0.5 + 3.4 * num_rows), layout="constrained")
    for number, draw in enumerate(draws):
        draw(figure.add_subplot(num_rows, 2, number + 1))
    num_layers = len(outcome.coverage.layers)
    figure.suptitle(f"{outcome.paths.model.name}: {outcome.coverage.num_int8} of {num_layers} layers in int8")
    save_figure(path, figure, dpi=130)


def _scores(outcome: Outcome) -> tuple[str, float, float] | None:
    """The metric that is drawn: the one that judges, in percent if it is a fraction of 1."""
    before, after = outcome.comparison.before.scores.metrics, outcome.comparison.after.scores.metrics
    name, judging = TRAITS[outcome.task.name].judging, outcome.task.judging
    if name not in before or name not in after:
        return None
    factor, unit = (100, ", %") if judging.is_percent else (1, "")
    return f"{judging.title}{unit}", factor * before[name], factor * after[name]


def _draw_scores(axes: Any, outcome: Outcome) -> None:
    scores = _scores(outcome)
    assert scores is not None
    name, before, after = scores
    _draw_pair(axes, name, before, after, "{:.2f}")
    if outcome.task.judging.is_percent:
        axes.set_ylim(max(0.0, min(before, after) - 5), min(100.5, max(before, after) + 1.5))


def _draw_sizes(axes: Any, outcome: Outcome) -> None:
    before, after = outcome.comparison.before.costs.sizes, outcome.comparison.after.costs.sizes
    if before is None or after is None:
        axes.set_axis_off()
        return
    _draw_pair(axes, "file, MiB", before.bytes / 2**20, after.bytes / 2**20, "{:.2f}")


def _draw_pair(axes: Any, title: str, before: float, after: float, style: str) -> None:
    bars = axes.bar(["float32", "int8"], [before, after], color=[BEFORE, AFTER], width=0.6)
    axes.bar_label(bars, labels=[style.format(value) for value in (before, after)])
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.15)


def _draw_speeds(axes: Any, speeds: Speeds, batch: int) -> None:
    rows = [row for row in speeds.rows if row.latency.batch == batch]
    labels = [f"{row.model}, {row.engine}" for row in rows]
    medians = [row.latency.median_ms for row in rows]
    spread = [
        [max(0.0, row.latency.median_ms - row.latency.p10_ms) for row in rows],
        [max(0.0, row.latency.p90_ms - row.latency.median_ms) for row in rows],
    ]
    colours = [AFTER if row.is_int8 else BEFORE for row in rows]
    bars = axes.barh(labels, medians, xerr=spread, color=colours, ecolor="#333333", capsize=2)
    axes.bar_label(bars, labels=[f" {median:.2f}" for median in medians], padding=6, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"latency at batch {batch}, ms (median, p10 to p90)", fontsize=10)
