"""What an evaluation came to: metrics with their intervals, classes or labels one by one, calibration, and the worst samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from dlkit.core.data import DataInfo, Split
from dlkit.core.evaluation.calibration_error import ConfidenceBin, calibration_error, confidence_bins
from dlkit.core.evaluation.confusion import confusion_matrix
from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.intervals import Interval, map_intervals, metric_intervals
from dlkit.core.evaluation.maps import MapScores, PixelMetrics, describe_pictures, metrics_per_pixel_class
from dlkit.core.evaluation.metrics import (
    ClassMetrics,
    LabelMetrics,
    macro_average,
    metrics_per_class,
    metrics_per_label,
    ranking_scores,
)
from dlkit.core.evaluation.temperature import calibrated
from dlkit.core.evaluation.worst import WorstSample, certain_mistakes, worst_samples
from dlkit.core.scoring import Scoring


@dataclass(frozen=True)
class EvalResult:
    """What a model scores on a split. `intervals` are lower and upper ends of metrics at 95 %. `per_class` and `confusion`, which has
    true classes as rows, are those of classes, of samples or of pixels, `reliability` that of samples, `per_label` that of several
    labels, which have a `reliability` too; elsewhere they are empty. `temperature` is what probabilities are made with, `worst` are the
    samples of the highest loss and `certain` the wrong ones of the highest probability, where they were asked for.
    """

    split: str
    num_samples: int
    metrics: Mapping[str, float]
    classes: tuple[str, ...]
    per_class: Sequence[ClassMetrics | PixelMetrics]
    confusion: list[list[int]]
    per_label: list[LabelMetrics] = field(default_factory=list)
    reliability: list[ConfidenceBin] = field(default_factory=list)
    temperature: float | None = None
    worst: list[WorstSample] = field(default_factory=list)
    certain: list[WorstSample] = field(default_factory=list)
    intervals: Mapping[str, Interval] = field(default_factory=dict)


def describe_results(
    metrics: Mapping[str, float],
    found: Predictions | MapScores,
    split: Split,
    *,
    scoring: Scoring,
    info: DataInfo,
    num_worst: int = 0,
) -> EvalResult:
    """Returns all that predictions, or what is kept of maps, tell beside their metrics. Targets are counted: `Predictions.without`."""
    if isinstance(found, MapScores):
        chosen, areas = found.pictures.worst(num_worst), found.pictures.areas
        result = describe_maps(metrics, found.counts, areas, info, split=split.name, num_samples=split.num_samples)
        return replace(result, worst=describe_pictures(chosen, info, name_of=split.name_of))
    classes = info.class_names
    result = EvalResult(split.name, split.num_samples, metrics, classes, [], [])
    if num_worst:
        worst, certain = (
            pick(found, info, num_worst, name_of=split.name_of) for pick in (worst_samples, certain_mistakes)
        )
        result = replace(result, worst=worst, certain=certain)
    result = replace(result, intervals=metric_intervals(metrics, found, scoring))
    return _BY_TASK[info.task](result, found, info) if info.task in _BY_TASK else replace(result, classes=())


def describe_maps(
    metrics: Mapping[str, float], counts: Tensor, areas: Tensor, info: DataInfo, *, split: str, num_samples: int
) -> EvalResult:
    """Returns all that counts of pixels (C, C) and areas of pictures (N, 3, C) tell beside their metrics."""
    classes = info.class_names
    result = EvalResult(split, num_samples, metrics, classes, metrics_per_pixel_class(counts, classes), counts.tolist())
    return replace(result, intervals=map_intervals(metrics, areas))


def _describe_labels(result: EvalResult, predictions: Predictions, info: DataInfo) -> EvalResult:
    rows = metrics_per_label(predictions, result.classes, info.thresholds)
    ranked = [row.auroc for row in rows if not math.isnan(row.auroc)]
    bins = confidence_bins(predictions, of_labels=True)
    auroc = sum(ranked) / len(ranked) if ranked else math.nan
    metrics = {**result.metrics, "auroc": auroc, "ece": calibration_error(bins)}
    return replace(result, metrics=metrics, per_label=rows, reliability=bins)


def _describe_classes(result: EvalResult, predictions: Predictions, info: DataInfo) -> EvalResult:
    rows = metrics_per_class(predictions, result.classes)
    confusion = confusion_matrix(predictions).tolist()
    predictions = replace(predictions, outputs=calibrated(predictions.outputs, info))
    bins = confidence_bins(predictions)
    macro = {f"macro_{name}": value for name, value in macro_average(rows).items()}
    metrics = {**result.metrics, **macro, **ranking_scores(predictions), "ece": calibration_error(bins)}
    return replace(
        result,
        metrics=metrics,
        per_class=rows,
        confusion=confusion,
        reliability=bins,
        temperature=info.temperature,
    )


_BY_TASK = {"classification": _describe_classes, "multilabel": _describe_labels}


def most_confused(result: EvalResult, most: int = 5) -> list[tuple[str, str, int]]:
    """Returns the pairs (true class, predicted class, count) that are mistaken most often."""
    pairs = [
        (result.classes[row], result.classes[column], count)
        for row, counts in enumerate(result.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]
