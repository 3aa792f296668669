"""Masks as torchvision's transforms know them, where they would fill with class 0 or be off by part of a pixel. Imported on first use."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Mask, wrap

from dlkit.core.data.masks import IGNORED, scale_masks


class ClassMask(Mask):  # type: ignore[misc]  # torchvision has no types
    """A mask of classes: what comes in from outside is IGNORED, and pixels lie where those of scaled pictures do."""


@F.register_kernel(F.center_crop, ClassMask)  # type: ignore[untyped-decorator]
def _center_crop(mask: Tensor, output_size: list[int]) -> Tensor:
    """As of pictures, which have 0 outside. Classes are counted from IGNORED on meanwhile, so that this is 0."""
    shifted = mask.as_subclass(Tensor).to(torch.uint8) - IGNORED
    return _like(mask, F.center_crop(shifted, output_size) + IGNORED)


@F.register_kernel(F.resize, ClassMask)  # type: ignore[untyped-decorator]
def _resize(mask: Tensor, size: list[int] | None, max_size: int | None = None, **_: Any) -> Tensor:
    picture = F.resize(torch.empty(1, *mask.shape[-2:], device="meta"), size, max_size=max_size)
    height, width = picture.shape[-2:]
    return _like(mask, scale_masks(mask.as_subclass(Tensor).reshape(-1, *mask.shape[-2:]), (height, width)))


@F.register_kernel(F.resized_crop, ClassMask)  # type: ignore[untyped-decorator]
def _resized_crop(mask: Tensor, top: int, left: int, height: int, width: int, size: list[int], **_: Any) -> Tensor:
    found: Tensor = _resize(F.crop(mask, top, left, height, width), size)
    return found


def _like(mask: Tensor, changed: Tensor) -> Tensor:
    """Returns changed pixels as the mask that they come from: of its dtype and its leading dimensions."""
    found: Tensor = wrap(changed.to(mask.dtype).reshape(*mask.shape[:-2], *changed.shape[-2:]), like=mask)
    return found
