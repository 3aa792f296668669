"""A picture and maps of its classes, in colours, beside each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dlkit.core.data import Color
from dlkit.core.evaluation.maps.palette import RIGHT, WRONG, paint
from dlkit.core.evaluation.maps.worst import SeenMap


def seen_strip(seen: SeenMap, colors: Sequence[Color]) -> Tensor:
    """Returns picture, truth, prediction and error beside each other, uint8 (H, W, 3)."""
    maps = (paint(seen.target, colors), paint(seen.predicted, colors), paint(seen.error, (RIGHT, WRONG)))
    return strip_of(seen.picture, maps)


def strip_of(picture: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Returns a picture as `picture_of` returns it and painted maps of it beside each other, uint8 (H, W, 3)."""
    picture = picture if picture.ndim == 3 else picture[..., None].expand(-1, -1, 3)
    gap = torch.full((len(picture), max(1, picture.shape[1] // 32), 3), 255, dtype=torch.uint8)
    first, *rest = (picture * 255).round().byte(), *maps
    return torch.cat([first, *(part for each in rest for part in (gap, each))], 1)
