"""Folders of images: one folder per class, or train/ val/ test/ of those."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.decoded_files import DecodedFiles
from dlkit.core.data.images import EXTENSIONS, Mode, load_image, printable
from dlkit.core.data.mask_files import MaskFiles
from dlkit.core.data.masks import join_mask
from dlkit.core.data.samples import Source, SourceRequest, renumber
from dlkit.errors import DataError
from dlkit.quantities import counted
from dlkit.suggestions import did_you_mean

DEFAULT_SIZE = (224, 224)
SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclass(frozen=True)
class FileSamples:
    """Image files with a target each, decoded when they are read, or read from where they lie `decoded`.

    With `masks`, the target of a sample is its mask, which is read with its picture (data/masks.py); `targets` are of no meaning.
    """

    paths: tuple[str, ...]
    targets: Tensor
    mode: Mode = "rgb"
    is_random: bool = False
    decoded: DecodedFiles | None = None
    masks: MaskFiles | None = None

    @property
    def is_slow(self) -> bool:
        """Whether reading one decodes a file."""
        return self.decoded is None or (self.masks is not None and self.masks.decoded is None)

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one image, uint8 (C, H, W), joined with its mask if it has one, and its target."""
        path = self.paths[index]
        picture = self.decoded.read(path) if self.decoded else load_image(path, mode=self.mode)
        if self.masks is not None:
            picture = join_mask(picture, self.masks.read_fitting(index, picture.shape[1:], self.name_of(index)))
        return picture, self.targets[index]

    look = load

    def check_decoded(self, index: int) -> None:
        """Raise DataError where the mask of a sample that is decoded has not the size of its picture."""
        if self.decoded and self.masks and self.masks.decoded:
            sizes = self.masks.decoded.size_of(self.masks.paths[index]), self.decoded.size_of(self.paths[index])
            self.masks.check_size(index, *sizes, self.name_of(index))

    def name_of(self, index: int) -> str:
        """Returns the path of the file."""
        return printable(self.paths[index])

    def renumbered(self, table: Tensor) -> "FileSamples":
        """Returns the same files with other numbers of classes; see `renumber`."""
        if self.masks is not None:
            return replace(self, masks=self.masks.renumbered(table))
        return replace(self, targets=renumber(self.targets, table))

    def taken(self, rows: Tensor) -> "FileSamples":
        """Returns the samples at these rows."""
        paths = tuple(self.paths[row] for row in rows.tolist())
        return replace(
            self, paths=paths, targets=self.targets[rows], masks=self.masks and self.masks.taken(rows.tolist())
        )


def imagefolder(path: str, mode: Mode = "rgb", *, request: SourceRequest) -> Source:
    """Images by class folder, classes and files in the order of their names' bytes; `mode` is rgb or grey.

    With a folder `train` in it, `path` holds splits (train, and val and test if they are there) with the same classes
    in each; else it holds the classes. Files without an image's extension, and hidden ones, are left out. Raises
    DataError for folders that make no data set.
    """
    check_mode(mode)
    root = Path(path)
    if not root.is_dir():
        raise DataError(
            f"{printable(root)}: no such folder" if not root.exists() else f"{printable(root)}: not a folder"
        )
    train_folder = split_folder(root, "train")
    classes = _class_names(train_folder or root)
    train, left_out = _index_split(train_folder or root, classes, mode)
    val, test = (_index_other(root, name, classes, mode=mode) if train_folder else None for name in ("val", "test"))
    return Source(
        task="classification",
        kind="image",
        train=train,
        val=val,
        test=test,
        num_outputs=len(classes),
        classes=tuple(map(printable, classes)),
        image_size=DEFAULT_SIZE,
        notes=(
            f"{counted(len(left_out), 'file')} without an image's extension left out, for example {printable(left_out[0])}",
        )
        if left_out
        else (),
    )


def check_mode(mode: str) -> None:
    """Raise ComponentError for a mode that there is not."""
    if mode not in ("rgb", "grey"):
        raise ComponentError(f"expected rgb or grey, got {mode!r}", option="mode")


def split_folder(root: Path, split: str) -> Path | None:
    """Returns the folder of a split, None where there is none."""
    return next((root / name for name in SPLIT_FOLDERS[split] if (root / name).is_dir()), None)


def _class_names(folder: Path) -> list[str]:
    entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if not names:
        has_images = any(is_image(entry.name) for entry in entries)
        what = (
            "holds images but no class folders" if has_images else "holds no class folders" if entries else "is empty"
        )
        raise DataError(
            f"{printable(folder)} {what}; images belong in one folder per class: {printable(folder)}/CLASS/IMAGE"
        )
    if len(names) == 1:
        raise DataError(
            f"{printable(folder)} holds one class only ({printable(names[0])}); at least two class folders are needed"
        )
    return names


def _index_other(root: Path, split: str, classes: list[str], *, mode: Mode) -> FileSamples | None:
    folder = split_folder(root, split)
    if folder is None:
        return None
    for name in _class_names(folder):
        if name not in classes:
            hint = did_you_mean(name, classes)
            raise DataError(
                f"{printable(folder / name)}: class {printable(name)!r} has no training images.{hint} "
                "Rename or remove the folder, or add it to train"
            )
    return _index_split(folder, [name for name in classes if (folder / name).is_dir()], mode, all_classes=classes)[0]


def _index_split(
    folder: Path, classes: list[str], mode: Mode, *, all_classes: list[str] | None = None
) -> tuple[FileSamples, list[str]]:
    paths: list[str] = []
    labels: list[int] = []
    left_out: list[str] = []
    for name in classes:
        found = sorted(walk_files(folder / name), key=os.fsencode)
        images = [path for path in found if is_image(path)]
        left_out += [path for path in found if not is_image(path)]
        if not images:
            listed = " ".join(sorted(EXTENSIONS))
            raise DataError(
                f"{printable(folder / name)}: class folder without images ({listed}); add images or remove the folder"
            )
        paths += images
        labels += [(all_classes or classes).index(name)] * len(images)
    return FileSamples(tuple(paths), torch.tensor(labels), mode), left_out


def is_image(path: str) -> bool:
    """Whether a name has the extension of an image."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS  # noqa: PTH122 - twenty times faster than Path over a million names


def walk_files(folder: Path) -> Iterator[str]:
    """Files below a folder, links followed, each real folder entered once, hidden names left out."""
    seen: set[str] = set()
    for current, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(current, name) for name in files if not name.startswith("."))  # noqa: PTH118 - as above
