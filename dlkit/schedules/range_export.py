"""Range tests as files: CSV and JSON with every loss, PNG, SVG or PDF through matplotlib."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.files import PICTURES, check_ending, check_output, save_figure, write_text
from dlkit.schedules.export import ENDINGS, csv_text
from dlkit.schedules.range_picture import config_line
from dlkit.schedules.rate_range import RangeTest, Suggestion
from dlkit.schedules.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "dlkit.lr-find/1"


def check_suffix(path: Path) -> None:
    """Raise for a file that could not be written after a long test: UsageError for its ending, else OutputError."""
    check_ending(path, ENDINGS)
    check_output(path, may_replace=True)


def range_test_as_plain(test: RangeTest, facts: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Everything about a test as JSON values, after `facts` about what was tested."""
    plan, best = test.plan, test.recommended
    return {
        "schema": SCHEMA,
        **facts,
        "lo": plan.lo,
        "hi": plan.hi,
        "steps": plan.steps,
        "repeats": plan.repeats,
        "smoothing": plan.smoothing,
        "threshold": plan.threshold,
        "interrupted": test.is_interrupted,
        "recommended": best and {**_plain_suggestion(best), "override": config_line(best)},
        "suggestions": [_plain_suggestion(suggestion) for suggestion in test.suggestions],
        "rises_from": test.rises_from,
        "notes": list(notes),
        "sweeps": [_plain_sweep(sweep) for sweep in test.sweeps],
    }


def _plain_suggestion(suggestion: Suggestion) -> dict[str, Any]:
    return {
        "name": suggestion.name,
        "lr": suggestion.lr,
        "repeats": list(suggestion.repeats),
        "spread": suggestion.spread,
        "reliable": suggestion.is_reliable,
    }


def _plain_sweep(sweep: Sweep) -> dict[str, Any]:
    return {
        "ended": sweep.ended,
        "rises_from": sweep.rises_from,
        "lr": list(sweep.lrs),
        "loss": list(sweep.losses),
        "smoothed": list(sweep.smoothed),
    }


def save_range_test(path: Path, test: RangeTest, facts: Mapping[str, Any], notes: Sequence[str]) -> None:
    """Write a file of the kind its suffix names. Raises UsageError for another suffix, OutputError when it cannot be written."""
    check_suffix(path)
    if path.suffix.lower() in PICTURES:
        save_figure(path, _draw(test, facts))
    elif path.suffix.lower() == ".json":
        write_text(path, json.dumps(range_test_as_plain(test, facts, notes), allow_nan=False) + "\n")
    else:
        write_text(path, _as_csv(test))


def _as_csv(test: RangeTest) -> str:
    """A row per step and repeat, both counted from 0."""
    rows = (
        [repeat, step, *map(repr, values)]
        for repeat, sweep in enumerate(test.sweeps)
        for step, values in enumerate(zip(sweep.lrs, sweep.losses, sweep.smoothed, strict=True))
    )
    return csv_text(["repeat", "step", "lr", "loss", "smoothed"], rows)


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
