"""The metrics of a whole split: what a run reports once for its test split, and `dlkit eval` any time."""

from torch import nn

from dlkit.core.data.contract import Split
from dlkit.core.distributed.world import ALONE, World
from dlkit.core.evaluation.evaluate import Scoring
from dlkit.core.evaluation.metrics import summarize_classification, summarize_regression
from dlkit.core.evaluation.predictions import Predictions, predict_split
from dlkit.events import Report, ignore


def score_split(
    model: nn.Module,
    split: Split,
    scoring: Scoring,
    *,
    use_tta: bool = False,
    world: World = ALONE,
    report: Report = ignore,
) -> dict[str, float]:
    """Loss and the task's metrics; with `use_tta` also those of the mean over mirrored images, as `accuracy_tta`."""
    predictions = predict_split(model, split, scoring, world=world, report=report)
    metrics = {"loss": mean_loss(predictions, scoring), **summarize(predictions, scoring)}
    if use_tta and scoring.is_classification:
        mirrored = predict_split(model, split, scoring, use_tta=True, world=world, report=report)
        metrics["accuracy_tta"] = summarize(mirrored, scoring)["accuracy"]
    return metrics


def summarize(predictions: Predictions, scoring: Scoring) -> dict[str, float]:
    """The task's metrics without the loss."""
    return summarize_classification(predictions) if scoring.is_classification else summarize_regression(predictions)


def mean_loss(predictions: Predictions, scoring: Scoring) -> float:
    """The loss over all predictions as one batch."""
    device = scoring.precision.device
    loss, _ = scoring.loss(predictions.outputs.to(device), predictions.targets.to(device))
    return loss.item()
