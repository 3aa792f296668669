"""How many pixels of masks each class has, and in how many pictures it is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlkit.core.data.describing import MOST_MEASURED, measured_positions
from dlkit.core.data.masks import IGNORED, count_classes
from dlkit.core.data.subsets import Subset


@dataclass(frozen=True)
class ClassShares:
    """Pixels of each class in the masks of `num_pictures`, and the pictures that have it, both int64 (C,); and pixels not counted."""

    pixels: Tensor
    pictures: Tensor
    num_ignored: int
    num_pictures: int


def class_shares(subset: Subset, num_classes: int, *, most: int = MOST_MEASURED) -> ClassShares:
    """Returns the classes in the masks of a subset as its files have them; of more than `most` pictures those of so many, by seed."""

    def of_picture(position: int) -> Tensor:
        mask = subset.mask(position)
        return torch.cat([count_classes(mask, num_classes), (mask == IGNORED).sum()[None]])

    counts = torch.stack(subset.map(of_picture, measured_positions(subset, most).tolist()))
    of_classes, ignored = counts[:, :num_classes], counts[:, num_classes]
    return ClassShares(of_classes.sum(0), (of_classes > 0).sum(0), int(ignored.sum()), len(counts))
