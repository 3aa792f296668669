"""Maps of classes as PNG files: masks with a palette, whose pixels are numbers of classes, and pictures in the colours of their masks."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dlkit.core.evaluation.maps.palette import Color
from dlkit.core.evaluation.predict_images import find_images
from dlkit.errors import DataError, OutputError
from dlkit.files import check_output, worded, write_bytes

_OPACITY = 0.5


@dataclass(frozen=True)
class MaskWriter:
    """Where the masks of pictures go, by the file of the picture, and the folders of masks and of overlays that are asked for."""

    names: dict[Path, Path]
    masks: Path | None
    overlays: Path | None
    colors: Sequence[Color]

    def write(self, path: Path, picture: Tensor, mask: Tensor) -> dict[str, str]:
        """Write what is asked for of a picture, uint8 (C, H, W), and its mask, uint8 (H, W). Returns the files by what they are."""
        written: dict[str, str] = {}
        for what, folder in (("mask", self.masks), ("overlay", self.overlays)):
            if folder is not None:
                target = folder / self.names[path]
                with worded(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                image = _mask_image(mask, self.colors) if what == "mask" else _overlay(picture, mask, self.colors)
                write_bytes(target, _png(image))
                written[what] = str(target)
        return written


def mask_writer(
    paths: Sequence[Path], masks: Path | None, overlays: Path | None, colors: Sequence[Color], *, may_replace: bool
) -> MaskWriter:
    """Returns what writes the masks of images and of all images below folders: under their names as PNG, below the folders as they lie.

    Raises DataError for two pictures whose masks would be one file, OutputError for a file that is there already or could not be written.
    """
    names = _names_of(paths)
    for folder in (masks, overlays):
        if folder is not None:
            check_output(folder, may_replace=True, may_be_folder=True)
            if folder.exists() and not folder.is_dir():
                raise OutputError(f"{folder} is a file; give the name of a folder")
    if masks is not None and overlays is not None and masks.resolve() == overlays.resolve():
        raise OutputError(f"{masks}: masks and overlays have the same names; give each a folder of its own")
    writer = MaskWriter(names, masks, overlays, colors)
    sources = {path.resolve() for path in names}
    for target in (folder / name for folder in (masks, overlays) if folder for name in names.values()):
        if target.exists():
            if target.resolve() in sources:
                raise OutputError(f"{target} is a picture that is predicted; give another folder")
            check_output(target, may_replace=may_replace)
    return writer


def _names_of(paths: Sequence[Path]) -> dict[Path, Path]:
    names: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for path in paths:
        for image in find_images([path]):
            name = (image.relative_to(path) if path.is_dir() else Path(image.name)).with_suffix(".png")
            if taken.setdefault(name, image) != image:
                raise DataError(
                    f"{taken[name]} and {image}: both masks would be {name}; predict them one after the other"
                )
            names[image] = name
    return names


def _mask_image(mask: Tensor, colors: Sequence[Color]) -> Image.Image:
    image = Image.fromarray(mask.numpy(), "P")
    image.putpalette([value for color in colors for value in color])
    return image


def _overlay(picture: Tensor, mask: Tensor, colors: Sequence[Color]) -> Image.Image:
    """The picture half in the colours of the mask; where a class is black, as what is around often is, it stays as it is."""
    table = torch.tensor(colors, dtype=torch.float32)
    pixels = picture.float().expand(3, -1, -1).permute(1, 2, 0)
    opacity = _OPACITY * (table.sum(1) > 0)[mask.long()][..., None]
    mixed = pixels + (table[mask.long()] - pixels) * opacity
    return Image.fromarray(mixed.round().byte().numpy())


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
