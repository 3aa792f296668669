"""Pictures with a mask, the class of each pixel: one tensor for both, so that whatever moves pixels moves both alike.

A raw sample of segmentation is the picture with its mask as one more channel, (C + 1, H, W). Batches part the two: see Finish.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = (
    255  # in masks, from reading to the loss: pixels that are not counted, whatever number their files have for them
)
MOST_CLASSES = IGNORED


def join_mask(picture: Tensor, mask: Tensor) -> Tensor:
    """Returns a picture (..., C, H, W) and its mask (..., H, W) as one tensor (..., C + 1, H, W) of the picture's numbers."""
    return torch.cat([picture, mask.unsqueeze(-3).to(picture.dtype)], -3)


def part_mask(joined: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what `join_mask` joined, both as views."""
    return joined[..., :-1, :, :], joined[..., -1, :, :]


def only_pictures(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yields tensors that `join_mask` made without their masks."""
    return (part_mask(chunk)[0] for chunk in chunks)


def scale_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns masks (N, H, W) at another size, each pixel that of the nearest place."""
    if size == tuple(masks.shape[-2:]):
        return masks
    pixels = masks[:, None] if masks.is_floating_point() else masks[:, None].to(torch.uint8)
    return F.interpolate(pixels, size=list(size), mode="nearest-exact")[:, 0].to(masks.dtype)


def count_classes(masks: Tensor, num_classes: int) -> Tensor:
    """Returns how many pixels of masks (..., H, W) each class has, int64 (C,)."""
    pixels = masks.flatten().long()
    return torch.bincount(pixels[pixels != IGNORED], minlength=num_classes)
