"""Range tests as files and JSON values: every loss in CSV and JSON, a picture by matplotlib."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.schedules.range_plot import override_text
from dlkit.schedules.rate_range import RangeTest, Suggestion
from dlkit.schedules.result_files import save_result
from dlkit.schedules.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_range_test(path: Path, test: RangeTest, facts: Mapping[str, Any], notes: Sequence[str]) -> None:
    """Write a range test to a file. Raises UsageError for an unknown ending, OutputError if it cannot be written."""
    save_result(
        path,
        table=lambda: _table(test),
        content=lambda: range_test_as_json(test, facts, notes),
        figure=lambda: _draw(test, facts),
    )


def _table(test: RangeTest) -> Iterator[Sequence[object]]:
    """A row per step and repeat, both counted from 0."""
    yield ["repeat", "step", "lr", "loss", "smoothed"]
    for repeat, sweep in enumerate(test.sweeps):
        for step, values in enumerate(zip(sweep.lrs, sweep.losses, sweep.smoothed, strict=True)):
            yield [repeat, step, *map(repr, values)]


def range_test_as_json(test: RangeTest, facts: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Everything about a test as JSON values, after `facts` about what was tested."""
    plan, best = test.plan, test.recommended
    return {
        "schema": "dlkit.lr-find/1",
        **facts,
        "lo": plan.lo,
        "hi": plan.hi,
        "steps": plan.steps,
        "repeats": plan.repeats,
        "smoothing": plan.smoothing,
        "threshold": plan.threshold,
        "interrupted": test.is_interrupted,
        "recommended": best and {**_suggestion_as_json(best), "override": override_text(best)},
        "suggestions": [_suggestion_as_json(suggestion) for suggestion in test.suggestions],
        "rises_from": test.rises_from,
        "notes": list(notes),
        "sweeps": [_sweep_as_json(sweep) for sweep in test.sweeps],
    }


def _suggestion_as_json(suggestion: Suggestion) -> dict[str, Any]:
    return {
        "name": suggestion.name,
        "lr": suggestion.lr,
        "repeats": list(suggestion.repeats),
        "spread": suggestion.spread,
        "reliable": suggestion.is_reliable,
    }


def _sweep_as_json(sweep: Sweep) -> dict[str, Any]:
    return {
        "ended": sweep.ended,
        "rises_from": sweep.rises_from,
        "lr": list(sweep.lrs),
        "loss": list(sweep.losses),
        "smoothed": list(sweep.smoothed),
    }


def _draw(test: RangeTest, facts: Mapping[str, Any]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for sweep in test.judged:
        axes.plot(sweep.lrs, sweep.losses, color="0.8", linewidth=0.5)
    lrs = test.plan.lrs[: len(test.band)]
    lows, means, highs = zip(*test.band, strict=True) if test.band else ((), (), ())
    axes.fill_between(lrs, lows, highs, alpha=0.25, linewidth=0)
    axes.plot(lrs, means, label="smoothed loss")
    for number, each in enumerate(test.suggestions):
        doubt = "" if each.is_reliable else ", unreliable"
        axes.axvline(each.lr, linestyle="--", color=f"C{number + 1}", label=f"{each.name} {each.lr:.2g}{doubt}")
    if test.band:
        first, low = max(row[2] for row in test.band[:1]), min(lows)
        margin = 0.1 * (first - low) or 1.0
        axes.set_ylim(low - margin, max(first, *means[: _index_of_lowest(means) + 1]) + margin)
        axes.legend()
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.set_title(" · ".join(str(facts[key]) for key in ("model", "data", "optimizer") if key in facts), fontsize=9)
    axes.grid(alpha=0.3)
    return figure


def _index_of_lowest(values: Sequence[float]) -> int:
    return min(range(len(values)), key=values.__getitem__)
