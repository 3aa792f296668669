"""What a run scores: metrics with their intervals, classes or labels one by one, confusion, calibration, and errors of numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from dlkit.report.blocks import Block, Cell, Chart, Sheet, Words
from dlkit.report.words import count_cell, interval_text, metric_cell, metric_title, number_cell, plain, share_cell
from dlkit.run_folders import KeptPredictions, StoredEvaluation
from dlkit.tasks import TRAITS, TaskName

MOST_DRAWN = 60  # classes of a confusion matrix that is drawn
MOST_COUNTED = 25  # classes of one whose cells hold their counts
MOST_PAIRS = 30
MOST_SAMPLES = 3000  # points of a scatter plot
MOST_TARGETS = 4  # columns of numbers that are drawn
_BUCKETS = 40
_SHARES = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall", "f1": "F1"}


def score_blocks(found: StoredEvaluation, kept: KeptPredictions | None) -> list[Block]:
    """Returns all that was measured, as far as a task has it."""
    blocks = [_metrics(found), *_BY_TASK[found.task](found)]
    return [*blocks, *(_numbers(kept) if kept is not None and found.task == "regression" else ())]


def _metrics(found: StoredEvaluation) -> Sheet:
    rows = [
        (Cell(metric_title(name)), metric_cell(name, value), Cell(interval_text(name, found.intervals.get(name))))
        for name, value in found.metrics.items()
    ]
    note = (
        f"Of {found.num_samples:,} {found.split} samples. The interval holds the true value in 95 of 100 such splits."
    )
    if found.split != "test":
        note += " These samples chose the best epoch, or could have: the numbers are optimistic."
    return Sheet(("metric", "value", "95 % interval"), rows, note=note)


def _classes(found: StoredEvaluation) -> Iterator[Block]:
    """Of samples or of pixels, whose rows hold other shares."""
    shown = [name for name in _SHARES if name in (found.per_class or [{}])[0]]
    rows = [
        (Cell(row["name"]), count_cell(row["support"]), *(share_cell(row.get(name)) for name in shown))
        for row in found.per_class
    ]
    is_drawn = 0 < len(found.confusion) <= MOST_DRAWN
    if is_drawn:
        yield _confusion(found.confusion, found.classes)
    yield from _calibration(found, "the predicted class", "right", "samples")
    unit = "pixels" if TRAITS[found.task].has_maps else "samples"
    yield Sheet(("class", unit, *(_SHARES[name] for name in shown)), rows, title="Class by class")
    if not is_drawn:
        yield _pairs(found)


def _labels(found: StoredEvaluation) -> Iterator[Block]:
    shares = ("auroc", "average_precision", "precision", "recall", "f1")
    rows = [
        (
            Cell(row["name"]),
            count_cell(row["support"]),
            *(share_cell(row[name]) for name in shares),
            number_cell(row["threshold"], ".3f"),
        )
        for row in found.per_label
    ]
    yield Sheet(
        ("label", "samples", "AUROC", "AP", "precision", "recall", "F1", "threshold"), rows, title="Label by label"
    )
    yield from _calibration(found, "a label", "there", "labels of samples")


def _confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Chart:
    """Colours are shares of the true class, so that rare classes are seen; cells hold counts."""
    names = _distinct([plain(name, 16) for name in classes])
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    trace = {
        "type": "heatmap", "x": names, "y": names, "z": shares, "customdata": counts, "zmin": 0, "zmax": 1, "meta": {"scale": True},
        "hovertemplate": "is %{y}, said %{x}: %{customdata:,} (%{z:.1%} of the class)<extra></extra>", "showscale": False,
        "xgap": 1, "ygap": 1,
    }  # fmt: skip
    if len(classes) <= MOST_COUNTED:
        trace |= {
            "text": [[f"{count:,}" if count else "" for count in row] for row in counts],
            "texttemplate": "%{text}",
        }
    axis = {"type": "category", "showgrid": False, "zeroline": False}
    layout = {
        "xaxis": axis | {"title": {"text": "predicted"}, "side": "bottom"},
        "yaxis": axis | {"title": {"text": "true"}, "autorange": "reversed"},
    }
    height = min(720, 180 + 26 * len(classes))
    return Chart(
        "Confusion",
        [trace],
        layout,
        note="Colour is the share of the true class.",
        is_wide=len(classes) > 12,
        height=height,
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Names as they are drawn along an axis, where two that are alike would be one."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    if len(seen) == len(names):
        return list(names)
    return [f"{name} [{place}]" if seen[name] > 1 else name for place, name in enumerate(names)]


def _pairs(found: StoredEvaluation) -> Block:
    """Of many classes the pairs that are mistaken most often."""
    if not found.confusion:
        return Words("Of more than 1,000 classes no confusion matrix is kept.")
    counts = (
        (true, said, count)
        for true, row in enumerate(found.confusion)
        for said, count in enumerate(row)
        if true != said and count
    )
    most = sorted(counts, key=lambda pair: -pair[2])[:MOST_PAIRS]
    rows = [(Cell(found.classes[true]), Cell(found.classes[said]), count_cell(count)) for true, said, count in most]
    return Sheet(("true", "predicted", "samples"), rows, title="Most often mistaken")


def _calibration(found: StoredEvaluation, of_what: str, is_right: str, what: str) -> Iterator[Chart]:
    bins = [row for row in found.reliability if row["count"]]
    if not bins:
        return
    width = 1 / len(found.reliability)
    middles = [row["upper"] - width / 2 for row in bins]
    error = found.metrics.get("ece")
    words = "" if error is None else f"Expected calibration error {error:.2%}. "
    words += "" if found.temperature is None else f"Temperature {found.temperature:.4g}. "
    share = {
        "type": "bar", "name": f"share that is {is_right}", "x": middles, "y": [row["accuracy"] for row in bins], "width": width * 0.94,
        "customdata": [[row["count"], row["confidence"]] for row in bins],
        "hovertemplate": f"%{{customdata[0]:,}} {what}<br>probability %{{customdata[1]:.1%}}<br>{is_right} %{{y:.1%}}<extra></extra>",
    }  # fmt: skip
    line = _straight([0, 1], "calibrated")
    axis = {"range": [0, 1], "tickformat": ".0%"}
    layout = {
        "xaxis": axis | {"title": {"text": f"probability of {of_what}"}},
        "yaxis": axis | {"title": {"text": f"share that is {is_right}"}},
        "bargap": 0,
    }
    yield Chart(
        "Calibration",
        [share, line],
        layout,
        note=f"{words}Bars on the line are probabilities that can be taken at their word.",
    )


def _no_parts(found: StoredEvaluation) -> Iterator[Block]:
    return iter(())


# what a task has beside its metrics
_BY_TASK: Mapping[TaskName, Callable[[StoredEvaluation], Iterator[Block]]] = {
    "classification": _classes,
    "multilabel": _labels,
    "regression": _no_parts,
    "segmentation": _classes,
}


def _numbers(kept: KeptPredictions) -> Iterator[Block]:
    """Of each target its errors, and for the first ones predictions against targets, and how the errors lie."""
    names = kept.facts.names
    errors = kept.predicted - kept.targets
    rows = [
        (
            Cell(name),
            number_cell(float(kept.targets[:, place].mean())),
            number_cell(float(kept.targets[:, place].std())),
            number_cell(float(abs(errors[:, place]).mean())),
            number_cell(float((errors[:, place] ** 2).mean() ** 0.5)),
            number_cell(float(errors[:, place].mean())),
        )
        for place, name in enumerate(names)
    ]
    columns = ("target", "mean", "deviation", "mean absolute error", "root mean squared error", "mean error")
    yield Sheet(
        columns,
        rows,
        title="Target by target",
        note="In the units of the data; the mean error tells whether it is off to one side.",
    )
    for place, name in enumerate(names[:MOST_TARGETS]):
        yield _scatter(kept, place, name)
        yield _histogram(errors[:, place].tolist(), name)


def _straight(ends: list[float], name: str) -> dict[str, Any]:
    """The line on which predictions are right."""
    line = {"dash": "dash", "width": 1.5}
    return {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "name": name, "line": line, "hoverinfo": "skip"}


def _scatter(kept: KeptPredictions, place: int, name: str) -> Chart:
    every = -(-len(kept.targets) // MOST_SAMPLES)
    true, said = (values[::every, place].tolist() for values in (kept.targets, kept.predicted))
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": true,
        "y": said,
        "customdata": kept.numbers[::every].tolist(),
        "marker": {"size": 5, "opacity": 0.6},
        "hovertemplate": "sample %{customdata}<br>is %{x:.5g}, said %{y:.5g}<extra></extra>",
    }
    ends = list(filter(isfinite, true + said))
    layout = {
        "xaxis": {"title": {"text": f"true {plain(name)}"}},
        "yaxis": {"title": {"text": "predicted"}},
        "showlegend": False,
    }
    return Chart(f"Predicted and true {name}", [points, _straight([min(ends), max(ends)], "right")], layout)


def _histogram(errors: list[float], name: str) -> Chart:
    errors = list(filter(isfinite, errors)) or [0.0]
    low, high = min(errors), max(errors)
    width = (high - low) / _BUCKETS or 1.0
    counts = [0] * _BUCKETS
    for error in errors:
        counts[min(int((error - low) / width), _BUCKETS - 1)] += 1
    middles = [low + (place + 0.5) * width for place in range(_BUCKETS)]
    hover = "error %{x:.4g}<br>%{y:,} samples<extra></extra>"
    trace = {"type": "bar", "x": middles, "y": counts, "width": width, "hovertemplate": hover}
    layout = {
        "xaxis": {"title": {"text": f"predicted − true {plain(name)}"}},
        "yaxis": {"title": {"text": "samples"}},
        "bargap": 0,
    }
    return Chart(f"Errors of {name}", [trace], layout)
