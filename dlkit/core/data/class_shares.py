"""How many pixels of masks each class has, and in how many pictures it is."""

import torch
from torch import Tensor

from dlkit.core.data.describing import measured_positions
from dlkit.core.data.masks import count_classes, part_mask
from dlkit.core.data.subsets import Subset


def class_shares(subset: Subset, num_classes: int) -> Tensor:
    """Returns pixels and pictures of each class in the masks of a subset, int64 (2, C); of very many pictures those of 20,000, by seed."""

    def of_picture(position: int) -> Tensor:
        return count_classes(part_mask(subset.raw(position))[1], num_classes)

    counts = torch.stack(subset.map(of_picture, measured_positions(subset).tolist()))
    return torch.stack([counts.sum(0), (counts > 0).sum(0)])
