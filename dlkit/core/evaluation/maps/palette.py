"""Colours of classes in pictures of maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dlkit.core.data import IGNORED, Color, is_color

# a grey that PASCAL VOC's map has for no class below 256: its (128, 128, 128) is class 7
NOT_COUNTED: Color = (200, 200, 200)
RIGHT, WRONG = (52, 58, 70), (235, 64, 52)


def class_colors(config: Mapping[str, Any] | None, num_classes: int) -> list[Color]:
    """Returns red, green and blue, 0 to 255, of each class: those of `data.colors` of a model file's config where it has them for all
    classes, else those of PASCAL VOC's colour map.
    """
    data = (config or {}).get("data")
    own = data.get("colors") if isinstance(data, Mapping) else None
    if isinstance(own, Mapping) and len(own) == num_classes and all(map(is_color, own.values())):
        return [(red, green, blue) for red, green, blue in own.values()]
    return [_voc_color(number) for number in range(num_classes)]


def paint(classes: Tensor, colors: Sequence[Color]) -> Tensor:
    """Returns a map of classes, IGNORED where a pixel is not counted, as a picture: uint8 (H, W, 3) of (H, W)."""
    table = torch.tensor([*colors, *[NOT_COUNTED] * (IGNORED + 1 - len(colors))], dtype=torch.uint8)
    return table[classes]


def _voc_color(number: int) -> Color:
    """The colour that `VOClabelcolormap` of PASCAL VOC's development kit has for a class: the number's lowest three bits are the highest
    of red, green and blue, the next three the second highest, and so on.
    """
    red, green, blue = (
        sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(8)) for channel in range(3)
    )
    return red, green, blue
