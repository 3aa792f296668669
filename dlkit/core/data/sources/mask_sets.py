"""torchvision's data sets of pictures with masks, read by their files."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from dlkit.core.components import ComponentError
from dlkit.core.data.mask_files import MaskCode, MaskFiles
from dlkit.core.data.masks import IGNORED
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.sources.imagefolder import FileSamples
from dlkit.core.data.sources.torchvision import open_dataset
from dlkit.errors import DataError

VOC_CLASSES = (
    *(
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
    ),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
PET_CLASSES = ("pet", "ground", "border")


def voc_segmentation(year: str = "2012", *, request: SourceRequest) -> Source:
    """Pascal VOC's pictures with masks of 21 classes, its own validation split; 255 is not counted."""
    from torchvision.datasets import VOCSegmentation

    parts = [
        open_dataset(VOCSegmentation, {"year": str(year), "image_set": name}, request) for name in ("train", "val")
    ]
    files = [(part.images, part.masks) for part in parts]
    codes = {**{number: number for number in range(len(VOC_CLASSES))}, 255: IGNORED}
    return _source_of(files[0], files[1], None, classes=VOC_CLASSES, codes=codes, request=request)


def cityscapes(mode: str = "fine", *, request: SourceRequest) -> Source:
    """Cityscapes' street scenes with masks of the 19 classes that are judged, its own validation split; others are not counted."""
    from torchvision.datasets import Cityscapes

    if mode not in ("fine", "coarse"):
        raise ComponentError(f"expected fine or coarse, got {mode!r}", option="mode")
    parts = [
        open_dataset(Cityscapes, {"split": name, "mode": mode, "target_type": "semantic"}, request)
        for name in ("train", "val")
    ]
    files = [(part.images, [found[0] for found in part.targets]) for part in parts]
    judged = sorted((one for one in Cityscapes.classes if 0 <= one.train_id < IGNORED), key=lambda one: one.train_id)
    codes = {one.id % 256: IGNORED for one in Cityscapes.classes} | {one.id: one.train_id for one in judged}
    classes = tuple(one.name for one in judged)
    return _source_of(files[0], files[1], None, classes=classes, codes=codes, request=request)


def pet_masks(builder: Callable[..., Any], request: SourceRequest) -> Source:
    """Oxford-IIIT Pet's pictures with masks of pet, ground and the border between them, and its test split."""
    parts = [
        open_dataset(builder, {"split": name, "target_types": "segmentation"}, request) for name in ("trainval", "test")
    ]
    files = [(part._images, part._segs) for part in parts]
    codes = {number + 1: number for number in range(len(PET_CLASSES))}
    return _source_of(files[0], None, files[1], classes=PET_CLASSES, codes=codes, request=request)


_Files = tuple[Sequence[Any], Sequence[Any]]


def _source_of(
    train: _Files,
    val: _Files | None,
    test: _Files | None,
    *,
    classes: tuple[str, ...],
    codes: Mapping[int, int],
    request: SourceRequest,
) -> Source:
    ignored = {} if request.ignored_label is None else {request.ignored_label: IGNORED}
    code = MaskCode({**codes, **ignored})

    def samples_of(files: _Files) -> FileSamples:
        pairs = sorted(zip(*(map(str, paths) for paths in files), strict=True))  # Cityscapes lists folders as they come
        if not pairs:
            raise DataError("a split of this data set is empty")
        pictures, masks = zip(*pairs, strict=True)
        return FileSamples(pictures, torch.zeros(len(pictures), dtype=torch.int64), masks=MaskFiles(masks, code))

    return Source(
        "segmentation",
        "image",
        samples_of(train),
        samples_of(val) if val else None,
        samples_of(test) if test else None,
        len(classes),
        classes,
    )
