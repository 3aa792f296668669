"""Counts of pixels by true and by predicted class, and what follows from them: intersection over union, and Dice.

Counts are whole numbers, int64 (C, C) with true classes as rows, so that sums over batches and processes are exact in any order.
"""

import torch
from torch import Tensor

from dlkit.core.data import IGNORED


def pixel_counts(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Returns the counts of maps of classes, int64 (N, H, W) both; pixels whose target is IGNORED are left out."""
    places = (targets * num_classes + predicted)[targets != IGNORED]
    return torch.bincount(places, minlength=num_classes**2).view(num_classes, num_classes)


def class_areas(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Returns how many pixels of each picture and class are right, are of that class, and are predicted to be: int64 (N, 3, C), of maps
    as in `pixel_counts`.
    """
    is_counted = targets != IGNORED
    firsts = num_classes * torch.arange(len(targets), device=targets.device).view(-1, 1, 1)

    def areas(classes: Tensor, chosen: Tensor) -> Tensor:
        found = torch.bincount((classes + firsts)[chosen], minlength=len(targets) * num_classes)
        return found.view(len(targets), num_classes)

    is_right = is_counted & (predicted == targets)
    return torch.stack([areas(targets, is_right), areas(targets, is_counted), areas(predicted, is_counted)], 1)


def areas_of(counts: Tensor) -> Tensor:
    """Returns the areas of counts (C, C) as `class_areas` has them: (3, C)."""
    return torch.stack([counts.diag(), counts.sum(1), counts.sum(0)])


def iou_of(areas: Tensor) -> Tensor:
    """Returns intersection over union of each class from areas (..., 3, C), float64 (..., C); NaN for one that is neither there nor
    predicted.
    """
    right, true, said = areas.double().unbind(-2)
    return right / (true + said - right)  # 0 / 0 is NaN


def dice_of(areas: Tensor) -> Tensor:
    """Returns twice the intersection over the sum of both areas, of each class, float64 (..., C); NaN as in `iou_of`."""
    right, true, said = areas.double().unbind(-2)
    return 2 * right / (true + said)


def map_metrics(areas: Tensor) -> dict[str, Tensor]:
    """Returns `miou` and `dice`, means over classes that are there or are predicted somewhere, and `pixel_accuracy`, float64 (...), from
    areas (..., 3, C).
    """
    right, true, _ = areas.double().unbind(-2)
    return {
        "miou": iou_of(areas).nanmean(-1),
        "dice": dice_of(areas).nanmean(-1),
        "pixel_accuracy": right.sum(-1) / true.sum(-1),
    }
