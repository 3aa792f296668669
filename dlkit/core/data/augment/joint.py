"""Transforms of pictures with masks, which are one tensor with the mask as its last channel (data/masks.py).

Whole batches: the same draws move the picture and its mask alike. Others get both as torchvision's `tv_tensors`. Masks are
interpolated by the nearest pixel, and what comes in from outside the picture is not counted.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from dlkit.core.data.augment.batched import Batched, Function
from dlkit.core.data.augment.boxes import erase_images
from dlkit.core.data.counter_rng import Draws
from dlkit.core.data.masks import IGNORED, join_mask, part_mask
from dlkit.errors import DataError
from dlkit.shapes import size_text

_ONLY_PICTURES: tuple[Function, ...] = (erase_images,)


@dataclass(frozen=True)
class JointBatched:
    """A transform of a batch of pictures with masks (N, C + 1, H, W); `of_masks` is None for one that leaves masks alone."""

    of_pictures: Batched
    of_masks: Batched | None

    @property
    def is_random(self) -> bool:
        """Whether the draws matter."""
        return self.of_pictures.is_random

    def __call__(self, joined: Tensor, draws: Draws) -> Tensor:
        """Returns both, transformed."""
        pictures, masks = part_mask(joined)
        pictures = self.of_pictures(pictures, draws)
        if self.of_masks is not None:
            masks = self.of_masks(masks[:, None], draws)[:, 0]
        return join_mask(pictures, masks)


def joint_batched(random: Batched) -> JointBatched:
    """Returns the form for pictures with masks of a transform with draws."""
    function, transform = random.function, random.transform
    if function in _ONLY_PICTURES:
        return JointBatched(random, None)
    like = {**vars(transform), "fill": IGNORED, "interpolation": "nearest"}
    return JointBatched(random, Batched(SimpleNamespace(**like), function))


@dataclass(frozen=True)
class JointTransform:
    """A transform of torchvision, or of the user's own, that is called with a picture and its mask and returns both."""

    name: str
    transform: Callable[..., Any]

    def __call__(self, joined: Tensor) -> Tensor:
        """Returns pictures and masks (..., C + 1, H, W), transformed. Raises DataError for other things than these two."""
        from torchvision.tv_tensors import Image  # takes two seconds to import

        from dlkit.core.data.augment.class_masks import ClassMask

        picture, mask = part_mask(joined)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*passing through inputs.*")
            found = self.transform(Image(picture), ClassMask(mask))
        if not (isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(one, Tensor) for one in found)):
            raise DataError(f"transform {self.name} must return the picture and its mask, two tensors")
        picture, mask = (one.as_subclass(Tensor) for one in found)
        if picture.shape[-2:] != mask.shape[-2:]:
            sizes = " and ".join(size_text(one.shape[-2:]) for one in (picture, mask))
            raise DataError(f"transform {self.name} makes picture and mask of different sizes, {sizes}")
        return join_mask(picture, mask)


def joint_options(builder: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a class of torchvision, so that what it fills masks with is not counted."""
    fill = inspect.signature(builder).parameters.get("fill")
    if fill is None or not builder.__module__.startswith("torchvision."):
        return dict(options)
    from dlkit.core.data.augment.class_masks import ClassMask  # imports torchvision, which takes two seconds

    return {**options, "fill": {ClassMask: IGNORED, "others": options.get("fill", fill.default)}}
