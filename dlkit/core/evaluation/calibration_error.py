"""How far probabilities can be taken at their word: expected calibration error, and the picture of it.

Source: Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, 2015; Guo, Pleiss, Sun and
Weinberger, On calibration of modern neural networks, 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dlkit.core.evaluation.gathering import Predictions
from dlkit.files import save_figure

NUM_BINS = 15


@dataclass(frozen=True)
class ConfidenceBin:
    """The samples whose likeliest class has a probability above that of the bin before, up to `upper`: how many, their mean
    probability, and the share that is right. Of labels it is each label of each sample, and the share that is there.
    """

    upper: float
    count: int
    confidence: float
    accuracy: float


def confidence_bins(predictions: Predictions, *, of_labels: bool = False) -> list[ConfidenceBin]:
    """Returns 15 bins of equal width of the probability of the predicted class, or of every label; 0 where a bin is empty."""
    outputs, targets = predictions.outputs.double(), predictions.targets
    if of_labels:
        confidence, is_right = outputs.sigmoid().flatten(), targets.double().flatten()
    else:
        confidence, predicted = outputs.softmax(1).max(1)
        is_right = (predicted == targets).double()
    edges = torch.linspace(0, 1, NUM_BINS + 1, dtype=torch.float64)[1:]
    places = torch.bucketize(confidence, edges).clamp(max=NUM_BINS - 1)
    counts = torch.bincount(places, minlength=NUM_BINS)
    sums = [torch.bincount(places, weights=values, minlength=NUM_BINS) for values in (confidence, is_right)]
    means = [(total / counts.clamp(min=1)).tolist() for total in sums]
    return [ConfidenceBin(*row) for row in zip(edges.tolist(), counts.tolist(), *means, strict=True)]


def calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """Returns the mean gap between confidence and accuracy over samples, or labels of samples, a fraction of 1; NaN without any."""
    num_samples = sum(row.count for row in bins)
    gaps = sum(row.count * abs(row.accuracy - row.confidence) for row in bins)
    return gaps / num_samples if num_samples else float("nan")


def save_reliability_picture(path: Path, bins: Sequence[ConfidenceBin], *, of_labels: bool = False) -> None:
    """Write accuracy by confidence as an image, with how many samples each bin has; the ending of `path` picks the format."""
    from matplotlib.figure import Figure  # takes half a second to import

    words = ("probability of a label", "share that is there", "labels of samples")
    probability, share, what = (
        words if of_labels else ("probability of the predicted class", "share that is right", "samples")
    )
    figure = Figure(figsize=(5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    middles, width = [row.upper - 0.5 / NUM_BINS for row in bins], 1 / NUM_BINS
    upper.bar(middles, [row.accuracy for row in bins], width, edgecolor="white", label="accuracy")
    upper.plot(
        [row.confidence for row in bins if row.count], [row.accuracy for row in bins if row.count], "ko", markersize=3
    )
    upper.plot([0, 1], [0, 1], "k--", linewidth=1, label="calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel=share, title=f"ECE {calibration_error(bins):.2%}")
    upper.legend(loc="upper left")
    lower.bar(middles, [row.count for row in bins], width, edgecolor="white")
    lower.set(xlabel=probability, ylabel=what)
    save_figure(path, figure)
