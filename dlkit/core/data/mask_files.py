"""Files of masks: from what stands in their pixels, numbers of classes or colours, to classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dlkit.core.data.decoded_files import DecodedFiles, Decoding
from dlkit.core.data.images import explained, printable
from dlkit.core.data.masks import IGNORED, MOST_CLASSES
from dlkit.errors import DataError
from dlkit.shapes import size_text

Color = tuple[int, int, int]
EXACT = frozenset({".png", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"})  # formats that keep every number
_OF_NUMBERS = ("1", "L", "P", "I", "I;16", "I;16B")
_WHITE = 255
_BLACK_AND_WHITE = (
    "for masks in black and white set data.colors: {ground: [0, 0, 0], thing: [255, 255, 255]}; "
    "code of your own returns 0 and 1"
)
_UNKNOWN = -1
_WIDEST = 2**16


@dataclass(frozen=True)
class MaskCode:
    """What a mask's pixels stand for: the class of each number, or of each colour packed into a number, as `pack_color` does.

    A class of IGNORED is not counted.
    """

    classes: Mapping[int, int]
    has_colors: bool = False

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        numbers = sorted(self.classes)
        return torch.tensor(numbers), torch.tensor([self.classes[number] for number in numbers])

    def read(self, path: str) -> Tensor:
        """Returns the classes in a file: uint8 (H, W). Raises DataError, naming the file and the pixel, for what is no class."""
        numbers = read_mask_colors(path) if self.has_colors else read_mask_numbers(path)
        return self.decode(numbers, printable(path))

    def decode(self, numbers: Tensor, name: str) -> Tensor:
        """Returns the classes that numbers (H, W) stand for: uint8 (H, W). Raises DataError, which calls the mask `name`."""
        classes = self._look_up(numbers)
        wrong = classes == _UNKNOWN
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            raise DataError(f"{name}: {self._complaint(int(numbers[row, column]))} (row {row}, column {column})")
        return classes.to(torch.uint8)

    def _look_up(self, numbers: Tensor) -> Tensor:
        known, classes = self._sorted
        if known[-1] - known[0] < _WIDEST:  # by a table, which takes a fifth of the time
            places = (numbers - (known[0] - 1)).clamp_(0, len(self._table) - 1)
            return self._table.index_select(0, places.view(-1)).view(numbers.shape)
        places = torch.searchsorted(known, numbers).clamp_(max=len(known) - 1)
        return classes[places].where(known[places] == numbers, _UNKNOWN)

    @cached_property
    def _table(self) -> Tensor:
        """The class of each number from one below the least to one above the largest, neither of which is known."""
        known, classes = self._sorted
        table = torch.full((int(known[-1] - known[0]) + 3,), _UNKNOWN, dtype=torch.int16)
        table[known - known[0] + 1] = classes.short()
        return table

    def _complaint(self, number: int) -> str:
        if self.has_colors:
            return f"the colour {list(unpack_color(number))} is none of data.colors"
        numbers = [known for known, label in sorted(self.classes.items()) if label != IGNORED]
        known = f"class {number} is not among {numbers[0]}..{numbers[-1]}"
        if number == _WHITE and len(numbers) == 2:
            return f"{known}; {_BLACK_AND_WHITE}"
        return f"{known}; loss.ignore_index: {number} leaves such pixels out"

    def renumbered(self, table: Tensor) -> "MaskCode":
        """Returns the same with other numbers of classes: `table[i]` for class i."""
        renumbered = {
            number: IGNORED if label == IGNORED else int(table[label]) for number, label in self.classes.items()
        }
        return replace(self, classes=renumbered)


def code_of_numbers(num_classes: int, ignored: int | None) -> MaskCode:
    """Returns how masks of numbers of classes are read, `ignored` being a number that is not counted.

    Raises DataError for more classes than there is room for.
    """
    if num_classes > MOST_CLASSES:
        hint = (
            f". loss.ignore_index: {_WHITE} leaves {_WHITE} out; {_BLACK_AND_WHITE}"
            if num_classes == _WHITE + 1
            else ""
        )
        raise DataError(f"masks of {num_classes} classes; {MOST_CLASSES} are the most{hint}")
    classes = {number: number for number in range(num_classes)}
    return MaskCode(classes if ignored is None else {**classes, ignored: IGNORED})


def code_of_colors(colors: Sequence[Color], ignored: Sequence[Color] = ()) -> MaskCode:
    """Returns how masks of colours are read: that of each class in turn, and those that are not counted."""
    classes = {pack_color(color): number for number, color in enumerate(colors)}
    return MaskCode({**{pack_color(color): IGNORED for color in ignored}, **classes}, has_colors=True)


def is_color(value: Any) -> bool:
    """Whether a value from a config is red, green and blue from 0 to 255."""
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)


def pack_color(color: Sequence[int]) -> int:
    """Returns red, green and blue as one number."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def unpack_color(number: int) -> Color:
    """Returns the inverse of `pack_color`."""
    return number >> 16, number >> 8 & 255, number & 255


def read_mask_numbers(path: str) -> Tensor:
    """Returns the numbers in a mask's pixels, of a palette's its indices: int64 (H, W). Raises DataError for a file of colours."""
    with explained(path), Image.open(path) as image:
        return mask_numbers(ImageOps.exif_transpose(image), printable(path))


def mask_numbers(image: Image.Image, name: str) -> Tensor:
    """Returns the same of an image. Raises DataError, which calls it `name`."""
    if image.mode not in _OF_NUMBERS:
        raise DataError(
            f"{name}: its pixels are {image.mode}, a mask has one number of a class in each; for a mask of colours set data.colors"
        )
    return torch.from_numpy(np.array(image).astype(np.int64))


def read_mask_colors(path: str) -> Tensor:
    """Returns the colours in a mask's pixels, packed: int64 (H, W)."""
    with explained(path), Image.open(path) as image:
        pixels = np.array(ImageOps.exif_transpose(image).convert("RGB")).astype(np.int64)
    return torch.from_numpy(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2])


@dataclass(frozen=True)
class MaskFiles:
    """The file of the mask of each sample, and what its pixels stand for; read from where they lie `decoded`, if they do."""

    paths: tuple[str, ...]
    code: MaskCode
    decoded: DecodedFiles | None = None

    def read(self, index: int) -> Tensor:
        """Returns the mask of a sample: uint8 (H, W)."""
        path = self.paths[index]
        return self.decoded.read(path)[0] if self.decoded else self.code.read(path)

    def read_fitting(self, index: int, size: Sequence[int], picture: str) -> Tensor:
        """Returns the same of a sample whose picture has this height and width. Raises DataError where they differ."""
        mask = self.read(index)
        self.check_size(index, mask.shape, size, picture)
        return mask

    def check_size(self, index: int, found: Sequence[int], size: Sequence[int], picture: str) -> None:
        """Raise DataError where the size that was found for a mask is not that of its picture."""
        if tuple(found) != tuple(size):
            raise DataError(
                f"{printable(self.paths[index])}: the mask is {size_text(found)}, its picture {picture} is {size_text(size)}"
            )

    @property
    def decoding(self) -> Decoding:
        """How the files become classes, for `decode_once`: other codes make other classes of the same files."""
        way = "colours" if self.code.has_colors else "numbers"
        return Decoding(lambda path: self.code.read(path)[None], f"{way} {sorted(self.code.classes.items())}", "mask")

    def renumbered(self, table: Tensor) -> "MaskFiles":
        """Returns the same files with other numbers of classes; see `MaskCode.renumbered`."""
        return replace(self, code=self.code.renumbered(table), decoded=None)

    def taken(self, rows: Sequence[int]) -> "MaskFiles":
        """Returns those of the samples at these rows."""
        return replace(self, paths=tuple(self.paths[row] for row in rows))


def is_exact(path: str) -> bool:
    """Whether a file's format keeps every number."""
    return Path(path).suffix.lower() in EXACT


def check_exact(path: str) -> None:
    """Raise DataError for a mask in a format that changes numbers."""
    if not is_exact(path):
        raise DataError(
            f"{printable(path)}: masks are PNG files, or others that keep every number ({', '.join(sorted(EXACT))})"
        )
