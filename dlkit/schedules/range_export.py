"""Range tests as files: CSV and JSON with every loss, PNG, SVG or PDF through matplotlib."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlkit.errors import OutputError, UsageError
from dlkit.schedules.export import FIGURES, SUFFIXES
from dlkit.schedules.range_picture import config_line
from dlkit.schedules.rate_range import RangeTest, Suggestion
from dlkit.schedules.sweep import Sweep

SCHEMA = "dlkit.lr-find/1"


def check_suffix(path: Path) -> None:
    """Raise UsageError for a file that could not be written after a long test: a suffix that is none of ours, no folder."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: the file name must end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}")


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
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            _save_csv(path, test)
        elif suffix in FIGURES:
            _save_figure(path, test, facts)
        else:
            path.write_text(
                json.dumps(range_test_as_plain(test, facts, notes), allow_nan=False) + "\n", encoding="utf-8"
            )
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _save_csv(path: Path, test: RangeTest) -> None:
    """A row per step and repeat, both counted from 0."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["repeat", "step", "lr", "loss", "smoothed"])
        for repeat, sweep in enumerate(test.sweeps):
            for step, values in enumerate(zip(sweep.lrs, sweep.losses, sweep.smoothed, strict=True)):
                writer.writerow([repeat, step, *map(repr, values)])


def _save_figure(path: Path, test: RangeTest, facts: Mapping[str, Any]) -> None:
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
    figure.savefig(path, dpi=150)


def _index_of_lowest(values: Sequence[float]) -> int:
    return min(range(len(values)), key=values.__getitem__)
