"""A folder of pictures and a folder of their masks, of the same names."""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dlkit.core.components import ComponentError
from dlkit.core.data.images import Mode, printable
from dlkit.core.data.mask_files import (
    Color,
    MaskCode,
    MaskFiles,
    check_exact,
    code_of_colors,
    code_of_numbers,
    is_color,
    is_exact,
    read_mask_numbers,
)
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.scan import run_on_all, summarize
from dlkit.core.data.sources.imagefolder import (
    SPLIT_FOLDERS,
    FileSamples,
    check_mode,
    is_image,
    split_folder,
    walk_files,
)
from dlkit.core.data.sources.labels import check_names
from dlkit.errors import DataError


def maskfolder(
    path: str,
    images: str = "images",
    masks: str = "masks",
    *,
    suffix: str = "",
    classes: list[str] | None = None,
    colors: dict[str, list[int]] | None = None,
    ignored_colors: list[list[int]] | None = None,
    mode: Mode = "rgb",
    request: SourceRequest,
) -> Source:
    """Pictures below `images` with a mask each below `masks`, of the same name with `suffix` behind its stem, as PNG.

    Masks hold the number of a class in each pixel, or a colour of `colors`, whose names are the classes. Splits are folders train, val and
    test in `path`, or in both. Without names, classes are counted in all masks. Raises DataError for pictures without a mask.
    """
    check_mode(mode)
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{printable(root)}: {'not a folder' if root.exists() else 'no such folder'}")
    pairs = {split: pair for split in SPLIT_FOLDERS if (pair := _folders(root, split, (images, masks)))}
    if "train" not in pairs:
        pairs = {"train": (_folder(root / images), _folder(root / masks))}
    files = {split: _index_pair(*pair, suffix) for split, pair in pairs.items()}
    code, names, count = pick_code(
        [mask for _, found in files.values() for mask in found], classes, colors, ignored_colors, request
    )
    parts = {
        split: FileSamples(found, torch.zeros(len(found), dtype=torch.int64), mode, masks=MaskFiles(masked, code))
        for split, (found, masked) in files.items()
    }
    return Source("segmentation", "image", parts["train"], parts.get("val"), parts.get("test"), count, names)


def _folders(root: Path, split: str, names: tuple[str, str]) -> tuple[Path, Path] | None:
    """Returns the folders of pictures and masks of a split, root/train/images or root/images/train; None where it has none."""
    if (inside := split_folder(root, split)) is not None:
        return _folder(inside / names[0]), _folder(inside / names[1])
    pair = [split_folder(root / name, split) if (root / name).is_dir() else None for name in names]
    return None if pair[0] is None else (pair[0], pair[1] or _folder(root / names[1] / pair[0].name))


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise DataError(
            f"{printable(path)}: no such folder; pictures and masks are in two folders, data.images and data.masks name them"
        )
    return path


def _index_pair(images: Path, masks: Path, suffix: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the pictures in the order of their names' bytes, and their masks. Raises DataError for all that have none."""
    is_both = images.resolve() == masks.resolve()
    if is_both and not suffix:
        raise ComponentError("is the folder of pictures too; data.suffix tells masks from these there", option="masks")
    named = (
        path for path in walk_files(images) if is_image(path) and not (is_both and _stem(path, images).endswith(suffix))
    )
    pictures = sorted(named, key=os.fsencode)
    if not pictures:
        raise DataError(f"{printable(images)}: no images in this folder")
    # the last of a name is its mask
    candidates = sorted(walk_files(masks), key=lambda path: (is_image(path), is_exact(path), path))
    there = {_stem(path, masks): path for path in candidates}
    stems = [_stem(path, images) + suffix for path in pictures]
    missing = [
        f"{printable(path)} has no mask: {printable(masks / stem)}.png is not there"
        for path, stem in zip(pictures, stems, strict=True)
        if stem not in there
    ]
    if missing:
        raise DataError(summarize(missing, what="pictures"))
    for stem in stems:
        check_exact(there[stem])
    return tuple(pictures), tuple(there[stem] for stem in stems)


def _stem(path: str, folder: Path) -> str:
    """Returns the name of a file below a folder without its ending, in one spelling where macOS and others write accents differently."""
    return unicodedata.normalize("NFC", os.path.splitext(os.path.relpath(path, folder))[0])  # noqa: PTH122


def pick_code(
    paths: Sequence[str],
    classes: list[str] | None,
    colors: Mapping[str, list[int]] | None,
    ignored_colors: Sequence[Sequence[int]] | None,
    request: SourceRequest,
) -> tuple[MaskCode, tuple[str, ...] | None, int]:
    """Returns how masks are read, the names of their classes, and how many there are; without names these are counted in all files.

    Raises ComponentError at the option at fault.
    """
    if colors is not None:
        _check_colors(colors, ignored_colors or [])
        if classes is not None:
            raise ComponentError("the names in colors are the classes; leave one of both out", option="classes")
        chosen: list[Color] = [(red, green, blue) for red, green, blue in colors.values()]
        ignored: list[Color] = [(red, green, blue) for red, green, blue in ignored_colors or []]
        return code_of_colors(chosen, ignored), tuple(colors), len(colors)
    if ignored_colors is not None:
        raise ComponentError("belongs to colors, and there are none", option="ignored_colors")
    if classes is not None:
        check_names(classes)
        return code_of_numbers(len(classes), request.ignored_label), tuple(classes), len(classes)
    count = count_classes(paths, request.ignored_label, skips_bad=request.skips_bad)
    return code_of_numbers(count, request.ignored_label), None, count


def count_classes(paths: Sequence[str], ignored: int | None, *, skips_bad: bool) -> int:
    """Returns one more than the highest number in masks, but for the one that is ignored. Raises DataError for what is no mask, unless
    such are skipped and there are others.
    """

    def highest(path: str) -> int:
        try:
            found = torch.unique(read_mask_numbers(path))
        except DataError:
            if skips_bad:
                return -1
            raise
        return max((number for number in found.tolist() if number != ignored), default=0)

    count = max(run_on_all(highest, paths, name_of=printable)) + 1
    return count or count_classes(paths, ignored, skips_bad=False)  # which says why none can be read


def _check_colors(colors: Any, ignored: Any) -> None:
    for option, found in (
        ("colors", list(colors.values()) if isinstance(colors, dict) else None),
        ("ignored_colors", ignored),
    ):
        if not isinstance(found, list) or not all(map(is_color, found)):
            raise ComponentError(
                "expected red, green and blue from 0 to 255 for each, such as [255, 0, 0]", option=option
            )
    if len({tuple(color) for color in [*colors.values(), *ignored]}) < len(colors) + len(ignored):
        raise ComponentError("two of these are the same colour", option="colors")
    if len(colors) < 2:
        raise ComponentError("at least two classes are needed", option="colors")
