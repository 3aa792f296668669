"""Scores of maps of classes: counts of pixels that add up over batches, so that no map is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.data import Split, count_classes
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.evaluate import CountSum, announced, nothing_counts, without_gradients
from dlkit.core.evaluation.maps.worst import PictureMeter, PictureScores
from dlkit.core.models import eval_mode
from dlkit.core.scoring import Scoring, areas_of, dice_of, iou_of
from dlkit.events import Emit, Note, ignore
from dlkit.tasks import TRAITS


@dataclass(frozen=True)
class MapScores:
    """What is kept of a split of maps: counts of its pixels, int64 (C, C) with true classes as rows, and the scores of its pictures."""

    counts: Tensor
    pictures: PictureScores


def count_maps(
    model: nn.Module,
    split: Split,
    scoring: Scoring,
    *,
    world: World = ALONE,
    emit: Emit = ignore,
) -> tuple[float, MapScores]:
    """Returns the mean loss over a split, the counts of its pixels, and the scores of its pictures.

    Of several processes, each gets all.
    """
    meter, counts, pictures = scoring.new_meter(), CountSum(scoring), PictureMeter()
    with eval_mode(model), without_gradients(world):
        for batch in announced(split, None, world, emit):
            with scoring.precision.autocast():
                outputs = model(scoring.arrange(batch.inputs))
                loss, weight = scoring.loss(outputs, batch.targets)
            if batch.is_counted:
                meter.add(outputs, batch.targets, loss, weight)
                counts.add(outputs, batch.targets)
                pictures.add(outputs, batch)
    return meter.read(world)["loss"], MapScores(counted(counts.read(world), split.name, emit), pictures.read(world))


def counted(counts: Tensor, split: str, emit: Emit) -> Tensor:
    """Returns counts of pixels (C, C); that there are none is noted, as no metric follows from them."""
    if not counts.any():
        emit(Note(nothing_counts(TRAITS["segmentation"], split)))
    return counts


def count_pixels(split: Split, num_classes: int) -> Tensor:
    """Returns how many pixels of a split's masks each class has, int64 (C,)."""
    return torch.stack([count_classes(batch.targets.cpu(), num_classes) for batch in split.batches()]).sum(0)


@dataclass(frozen=True)
class PixelMetrics:
    """One class of maps: how many pixels have it, intersection over union and Dice (NaN for one that is neither there nor predicted),
    precision and recall; fractions of 1.
    """

    name: str
    support: int
    iou: float
    dice: float
    precision: float
    recall: float


def metrics_per_pixel_class(counts: Tensor, classes: Sequence[str]) -> list[PixelMetrics]:
    """Returns the scores of every class from counts of pixels (C, C); precision and recall are 0 where there is nothing to share."""
    hits, support, predicted = counts.diag().double(), counts.sum(1), counts.sum(0)
    shares = [hits / total.clamp(min=1) for total in (predicted, support)]
    areas = areas_of(counts)
    columns = [column.tolist() for column in (support, iou_of(areas), dice_of(areas), *shares)]
    return [PixelMetrics(*row) for row in zip(classes, *columns, strict=True)]
