"""Metrics of gathered predictions."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.data import Split
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.confusion import confusion_matrix
from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.maps import MapScores, count_maps, score_views
from dlkit.core.evaluation.predictions import predict_split
from dlkit.core.scoring import Scoring, areas_under_roc, average_precisions, decide_labels, f1_of, label_counts
from dlkit.events import Emit, ignore

MOST_RANKED = 2**24  # numbers that are sorted at once


@dataclass(frozen=True)
class ClassMetrics:
    """One class: how many samples it has, and precision, recall and F1 as fractions of 1."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class LabelMetrics:
    """One label: how many samples have it, AUROC (NaN where all or none have), average precision (NaN where none has), and precision,
    recall and F1 of what is found with a probability of at least the threshold; fractions of 1.
    """

    name: str
    support: int
    auroc: float
    average_precision: float
    precision: float
    recall: float
    f1: float
    threshold: float


def metrics_per_class(predictions: Predictions, classes: tuple[str, ...]) -> list[ClassMetrics]:
    """Precision, recall and F1 of every class; 0 where nothing was predicted or nothing was there."""
    counts = confusion_matrix(predictions).double()
    hits, support, predicted = counts.diag(), counts.sum(1), counts.sum(0)
    scores = [2 * hits / (support + predicted).clamp(min=1), hits / predicted.clamp(min=1), hits / support.clamp(min=1)]
    f1, precision, recall = (score.tolist() for score in scores)
    return [ClassMetrics(*row) for row in zip(classes, support.long().tolist(), precision, recall, f1, strict=True)]


def ranking_scores(predictions: Predictions, *, at_once: int = MOST_RANKED) -> dict[str, float]:
    """Returns `auroc` and `average_precision` of each class against all others by its probability, as unweighted means over
    classes that some samples have and some have not; so many numbers are sorted `at_once`.
    """
    probabilities = predictions.outputs.double().softmax(1)
    counts = torch.bincount(predictions.targets, minlength=probabilities.shape[1])
    labels = ((counts > 0) & (counts < len(probabilities))).nonzero()[:, 0]
    scores: dict[str, list[Tensor]] = {"auroc": [], "average_precision": []}
    for part in torch.split(labels, max(1, at_once // len(probabilities))):
        outputs, is_own = probabilities[:, part], predictions.targets[:, None] == part
        scores["auroc"].append(areas_under_roc(outputs, is_own))
        scores["average_precision"].append(average_precisions(outputs, is_own))
    return {name: torch.cat(found).mean().item() for name, found in scores.items()}


def macro_average(rows: list[ClassMetrics]) -> dict[str, float]:
    """Unweighted means over classes that have samples."""
    present = [row for row in rows if row.support]
    return {
        name: sum(getattr(row, name) for row in present) / max(len(present), 1)
        for name in ("precision", "recall", "f1")
    }


def metrics_per_label(
    predictions: Predictions, labels: tuple[str, ...], thresholds: tuple[float, ...] | None
) -> list[LabelMetrics]:
    """AUROC and average precision of every label, and precision, recall and F1 of what is found by its threshold; 0 where nothing was."""
    outputs, targets = predictions.outputs, predictions.targets
    counts = label_counts(decide_labels(outputs, thresholds), targets)
    hits, wrong, missed = counts.double()
    columns = (
        (targets > 0).sum(0).tolist(),
        areas_under_roc(outputs, targets).tolist(),
        average_precisions(outputs, targets).tolist(),
        (hits / (hits + wrong).clamp(min=1)).tolist(),
        (hits / (hits + missed).clamp(min=1)).tolist(),
        f1_of(counts).tolist(),
        thresholds or (0.5,) * len(labels),
    )
    return [LabelMetrics(*row) for row in zip(labels, *columns, strict=True)]


def score_split(
    model: nn.Module,
    split: Split,
    scoring: Scoring,
    *,
    use_tta: bool = False,
    world: World = ALONE,
    emit: Emit = ignore,
) -> tuple[dict[str, float], Predictions | MapScores]:
    """Returns loss and the task's metrics, and what they are of: predictions, or what is kept of maps; with `use_tta` also what judges of
    the mean over mirrored images, as `accuracy_tta`. Each of several processes gets all.
    """
    found: Predictions | MapScores
    if scoring.scores.traits.has_maps:
        loss, found = count_maps(model, split, scoring, world=world, emit=emit)
        metrics = {"loss": loss, **scoring.scores.judge(found.counts)}
    else:
        found = predict_split(model, split, scoring, world=world, emit=emit)
        metrics = score_predictions(found, scoring)
    return metrics | (score_mirrored(model, split, scoring, world=world, emit=emit) if use_tta else {}), found


def score_mirrored(
    model: nn.Module, split: Split, scoring: Scoring, *, world: World = ALONE, emit: Emit = ignore
) -> dict[str, float]:
    """Returns what judges, `accuracy_tta` say, of the mean over each image and its mirror image, of maps at three scales; nothing for
    regression.
    """
    judging = scoring.scores.traits.judging
    if not scoring.scores.traits.judging_metric.is_percent:
        return {}
    if scoring.scores.traits.has_maps:
        return score_views(model, split, scoring, world=world, emit=emit)
    mirrored = predict_split(model, split, scoring, use_tta=True, world=world, emit=emit)
    return {f"{judging}_tta": summarize(mirrored, scoring)[judging]}


def score_predictions(predictions: Predictions, scoring: Scoring) -> dict[str, float]:
    """Returns the loss, over all predictions as one batch, and the task's metrics."""
    device = scoring.precision.device
    loss, _ = scoring.loss(predictions.outputs.to(device), predictions.targets.to(device))
    return {"loss": loss.item(), **summarize(predictions, scoring)}


def summarize(predictions: Predictions, scoring: Scoring) -> dict[str, float]:
    """Returns the task's metrics without the loss, over samples whose label the loss does not ignore."""
    return scoring.scores.summarize(predictions.outputs, predictions.targets)
