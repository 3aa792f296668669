"""Metrics of gathered predictions."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from dlkit.core.data import Split
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.confusion import confusion_matrix
from dlkit.core.evaluation.predictions import Predictions, predict_split
from dlkit.core.scoring import Scoring
from dlkit.events import Emit, ignore


@dataclass(frozen=True)
class ClassMetrics:
    """One class: how many samples it has, and precision, recall and F1 as fractions of 1."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


def summarize_classification(predictions: Predictions) -> dict[str, float]:
    """Returns `accuracy`, and `top5` where there are more than five classes."""
    outputs, targets = predictions.outputs, predictions.targets
    metrics = {"accuracy": (outputs.argmax(1) == targets).double().mean().item()}
    if outputs.shape[1] > 5:
        top5 = outputs.topk(5, dim=1).indices
        metrics["top5"] = (top5 == targets[:, None]).any(1).double().mean().item()
    return metrics


def summarize_regression(predictions: Predictions) -> dict[str, float]:
    """Returns `mse`, `rmse`, `mae` over all target columns, and `r2`, the share of variance explained, averaged over columns."""
    outputs, targets = predictions.outputs.double(), predictions.targets.double()
    squared = (outputs - targets).square()
    variance = (targets - targets.mean(0)).square().sum(0)
    r2 = (1 - squared.sum(0) / variance.clamp(min=torch.finfo(torch.float64).tiny)).mean()
    mse = squared.mean()
    return {
        "mse": mse.item(),
        "rmse": mse.sqrt().item(),
        "mae": (outputs - targets).abs().mean().item(),
        "r2": r2.item(),
    }


def metrics_per_class(predictions: Predictions, classes: tuple[str, ...]) -> list[ClassMetrics]:
    """Precision, recall and F1 of every class; 0 where nothing was predicted or nothing was there."""
    counts = confusion_matrix(predictions).double()
    hits, support, predicted = counts.diag(), counts.sum(1), counts.sum(0)
    scores = [2 * hits / (support + predicted).clamp(min=1), hits / predicted.clamp(min=1), hits / support.clamp(min=1)]
    f1, precision, recall = (score.tolist() for score in scores)
    return [ClassMetrics(*row) for row in zip(classes, support.long().tolist(), precision, recall, f1, strict=True)]


def macro_average(rows: list[ClassMetrics]) -> dict[str, float]:
    """Unweighted means over classes that have samples."""
    present = [row for row in rows if row.support]
    return {
        name: sum(getattr(row, name) for row in present) / max(len(present), 1)
        for name in ("precision", "recall", "f1")
    }


def score_split(
    model: nn.Module,
    split: Split,
    scoring: Scoring,
    *,
    use_tta: bool = False,
    world: World = ALONE,
    emit: Emit = ignore,
) -> dict[str, float]:
    """Returns loss and the task's metrics; with `use_tta` also those of the mean over mirrored images, as `accuracy_tta`."""
    predictions = predict_split(model, split, scoring, world=world, emit=emit)
    metrics = score_predictions(predictions, scoring)
    if use_tta and scoring.is_classification:
        mirrored = predict_split(model, split, scoring, use_tta=True, world=world, emit=emit)
        metrics["accuracy_tta"] = summarize(mirrored, scoring)["accuracy"]
    return metrics


def score_predictions(predictions: Predictions, scoring: Scoring) -> dict[str, float]:
    """Returns the loss, over all predictions as one batch, and the task's metrics."""
    device = scoring.precision.device
    loss, _ = scoring.loss(predictions.outputs.to(device), predictions.targets.to(device))
    return {"loss": loss.item(), **summarize(predictions, scoring)}


def summarize(predictions: Predictions, scoring: Scoring) -> dict[str, float]:
    """Returns the task's metrics without the loss, over samples whose label the loss does not ignore."""
    if scoring.is_classification:
        return summarize_classification(predictions.without(scoring.loss.ignore_index))
    outputs, targets = map(scoring.in_own_units, (predictions.outputs, predictions.targets))
    return summarize_regression(replace(predictions, outputs=outputs, targets=targets))
