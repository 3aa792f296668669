"""Flips of a batch."""

from typing import Any

import torch
from torch import Tensor

from dlkit.core.data.counter_rng import Draws


class AlternatingFlip:
    """Mirror each image in every second epoch; which half begins is drawn per image.

    Over two epochs a network sees every image both ways exactly once, where independent flips repeat half of them.
    Source: Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024 (arXiv 2404.00498).
    """

    def __call__(self, image: Tensor) -> Tensor:
        """Not for single images: which way round depends on the epoch."""
        raise TypeError("alternating_flip needs the epoch and the sample; dlkit applies it to batches")


def flip_horizontally(transform: Any, images: Tensor, draws: Draws) -> Tensor:
    """RandomHorizontalFlip."""
    return flip_where(images, draws.uniforms(1)[:, 0] < transform.p, -1)


def flip_vertically(transform: Any, images: Tensor, draws: Draws) -> Tensor:
    """RandomVerticalFlip."""
    return flip_where(images, draws.uniforms(1)[:, 0] < transform.p, -2)


def flip_alternately(transform: Any, images: Tensor, draws: Draws) -> Tensor:
    """Mirror in odd epochs what began unmirrored, and the other way round."""
    began_mirrored = draws.for_all_epochs().uniforms(1)[:, 0] < 0.5
    return flip_where(images, began_mirrored ^ bool((draws.epoch or 0) % 2), -1)


def flip_where(images: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Returns the images (N, ...), those under the mask (N,) reversed along a dimension."""
    # picking whole images out of both versions is three times faster than torch.where on bytes
    both = torch.cat([images, images.flip(dim)])
    picked = torch.arange(len(images)) + len(images) * mask
    return both.index_select(0, picked.to(images.device))
