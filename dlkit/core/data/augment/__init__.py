"""torchvision's v2 transforms on whole batches, with draws of its own for every sample.

Each function takes the v2 object (which has checked its own options), images (N, C, H, W) and the samples' draws; in
distribution it does what the v2 object does to one tensor image. Transforms without a random choice are run as they
are.
"""

from collections.abc import Mapping
from typing import Any

from dlkit.core.data.augment.affine import affine_images, rotate_images
from dlkit.core.data.augment.batched import Batched, Function
from dlkit.core.data.augment.boxes import crop_images, erase_images, take_windows
from dlkit.core.data.augment.flips import (
    AlternatingFlip,
    flip_alternately,
    flip_horizontally,
    flip_vertically,
    flip_where,
)
from dlkit.core.data.augment.joint import JointBatched, JointTransform, joint_batched, joint_options
from dlkit.core.data.augment.plain_options import plain_transform

# by the names of torchvision's classes, because torchvision takes two seconds to import
DETERMINISTIC = {"CenterCrop", "Pad", "Resize", "Grayscale", "RGB"}
RANDOM: dict[str, Function] = {
    "RandomCrop": crop_images,
    "RandomHorizontalFlip": flip_horizontally,
    "RandomVerticalFlip": flip_vertically,
    "RandomRotation": rotate_images,
    "RandomAffine": affine_images,
    "RandomErasing": erase_images,
}


def plain_version(name: str, options: Mapping[str, Any]) -> Batched | None:
    """Returns the batched form of torchvision's v2 class of this name without importing it, or None for options that it has to
    look at itself.
    """
    transform = plain_transform(name, options)
    return Batched(transform, RANDOM[name]) if transform else None


def batched_version(transform: Any) -> Batched | None:
    """Returns the batched form of a transform, or None if it has none (or none for these options)."""
    if type(transform) is AlternatingFlip:
        return Batched(transform, flip_alternately)
    name = type(transform).__name__ if type(transform).__module__.startswith("torchvision.transforms.v2.") else ""
    if name in DETERMINISTIC:
        return Batched(transform, None)
    function = RANDOM.get(name)
    if (
        function is None
        or getattr(transform, "expand", False)
        or (name == "RandomErasing" and transform.value is None)
        or isinstance(getattr(transform, "fill", 0), dict)
    ):
        return None
    return Batched(transform, function)
