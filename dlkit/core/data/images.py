"""Image files to tensors, by one set of rules for training, evaluation and prediction.

Colour: everything becomes RGB (or grey, if so asked): palettes are looked up, CMYK is converted, alpha is dropped,
16-bit samples are scaled to 8 bits. The EXIF rotation is applied, an animation gives its first frame, and Pillow's
limit on the number of pixels stands.
"""

import io
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dlkit.core.data.contract import DataInfo, ImageFit
from dlkit.core.data.masks import scale_masks
from dlkit.core.data.statistics import normalize_inputs
from dlkit.errors import DataError
from dlkit.shapes import size_text

Mode = Literal["rgb", "grey"]

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pbm", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif"}
)


def printable(path: str | Path) -> str:
    """Returns a path as text that can be printed anywhere; bytes that are no UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def load_image(path: str | Path, *, mode: Mode = "rgb") -> Tensor:
    """Returns the picture in a file: uint8 (C, H, W). Raises DataError, naming the file, when it cannot be read."""
    with explained(path), Image.open(path) as image:
        return image_to_tensor(ImageOps.exif_transpose(image), mode=mode)


def decode_image(content: bytes, name: str, *, mode: Mode) -> Tensor:
    """Returns a picture from the bytes of its file: uint8 (C, H, W). Raises DataError, by `name`, when it cannot be read."""
    with explained(name), Image.open(io.BytesIO(content)) as image:
        return image_to_tensor(ImageOps.exif_transpose(image), mode=mode)


def mode_of_file(file: str | bytes, name: str) -> Mode:
    """Returns how a picture is stored, in a file or in bytes. Raises as `decode_image`."""
    with explained(name), Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        return mode_of(image)


def mode_of(image: Image.Image) -> Mode:
    """Returns grey for an image of one channel without a palette, else rgb."""
    return "grey" if image.mode in ("1", "L", "I", "I;16", "I;16B") else "rgb"


def check_image_header(path: str | Path) -> None:
    """Read a file's header and check what can be checked without decoding. Raises DataError, naming the file."""
    with explained(path), Image.open(path) as image:
        image.verify()


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn what Pillow raises for a file into DataError, which names it."""
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and more for broken files
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{printable(path)}: refused, it has too many pixels ({error})") from None
    except (MemoryError, DataError):  # room that ran out, time that ran out
        raise
    except Exception as error:
        raise DataError(
            f"{printable(path)}: not a readable image ({_reason(error, path)}); replace or remove it"
        ) from None


def _reason(error: Exception, path: str | Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        return (
            "the file is empty" if Path(path).is_file() and not Path(path).stat().st_size else "no known image format"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def image_to_tensor(image: Image.Image, *, mode: Mode = "rgb") -> Tensor:
    """Returns a Pillow image as uint8 (C, H, W), C being 3 for rgb and 1 for grey."""
    if image.mode.startswith("I"):
        image = _to_8_bits(image)
    if image.mode == "F":
        raise ValueError("32-bit float pixels have no agreed range; convert the file to 8 or 16 bits")
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return _pixels(image.convert("L" if mode == "grey" else "RGB"))


def _pixels(image: Image.Image) -> Tensor:
    """The numbers of an image, (C, H, W)."""
    return channels_first(torch.from_numpy(np.array(image)))


def channels_first(pixels: Tensor) -> Tensor:
    """Pixels (H, W) or (H, W, C) as (C, H, W)."""
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _to_8_bits(image: Image.Image) -> Image.Image:
    pixels = _pixels(image.convert("I")).double()
    if pixels.max() > 65535 or pixels.min() < 0:
        raise ValueError("32-bit pixels have no agreed range; convert the file to 8 or 16 bits")
    return Image.fromarray((pixels[0] / 257).round().to(torch.uint8).numpy())


def fit_image(images: Tensor, size: tuple[int, int], how: ImageFit | None = None, *, cuts: bool = True) -> Tensor:
    """Images (..., C, H, W) at this height and width: scaled until both sides cover it, then cut about the centre; or as `how` says,
    which is what torchvision's `Resize` and `CenterCrop` do to tensors. Unless it `cuts` they are scaled alone.
    """
    if tuple(images.shape[-2:]) == size and how is None:
        return images
    covering = _covering(images, size) if how is None else _asked_for(images, how)
    if covering != tuple(images.shape[-2:]):
        images = _scale(images, covering, mode=how.interpolation if how else "bilinear")
    return _middle(images, size) if cuts else images


def fit_masks(masks: Tensor, size: tuple[int, int], how: ImageFit | None = None) -> Tensor:
    """Masks (N, H, W) at this height and width, as `fit_image` brings their images there; each pixel is that of the nearest place."""
    if tuple(masks.shape[-2:]) == size and how is None:
        return masks
    covering = _covering(masks, size) if how is None else _asked_for(masks, how)
    return _middle(scale_masks(masks, covering), size)


def _middle(images: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = (round((have - side) / 2) for have, side in zip(images.shape[-2:], size, strict=True))
    return images[..., top : top + size[0], left : left + size[1]]


def _covering(images: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    scale = max(height / images.shape[-2], width / images.shape[-1])
    return max(height, round(images.shape[-2] * scale)), max(width, round(images.shape[-1] * scale))


def _asked_for(images: Tensor, how: ImageFit) -> tuple[int, int]:
    height, width = how.resize_size
    if how.crop_mode == "squash":
        return height, width
    old_height, old_width = images.shape[-2:]
    if height * old_width >= width * old_height:  # the longer side is cut off, not rounded, as torchvision does
        return height, max(width, int(height * old_width / old_height))
    return max(height, int(width * old_height / old_width)), width


def _scale(images: Tensor, size: tuple[int, int], *, mode: str) -> Tensor:
    """What torchvision's `resize` gives with antialiasing, bit for bit, without the two seconds that importing it takes."""
    flat = images.reshape(-1, *images.shape[-3:])
    dtype = images.dtype
    if dtype not in _scalable(images.device, mode):
        flat = flat.float()
    scaled = F.interpolate(flat, size=list(size), mode=mode, align_corners=False, antialias=True)
    if scaled.dtype != dtype:
        # bicubic weights are partly negative
        scaled = scaled.to(dtype) if dtype.is_floating_point else scaled.round().clamp(0, 255).to(dtype)
    return scaled.reshape(*images.shape[:-2], *size)


def _scalable(device: torch.device, mode: str) -> tuple[torch.dtype, ...]:
    """Kinds of numbers that torch scales as they are: bytes only where its kernels for them are fast."""
    is_fast = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") or platform.machine() in (
        "aarch64",
        "arm64",
    )
    takes_bytes = device.type == "cpu" and (is_fast or mode == "bicubic")  # as torchvision chooses
    return (torch.float32, torch.float64, *((torch.uint8,) if takes_bytes else ()))


def mode_for(info: DataInfo) -> Mode:
    """Returns how images are read for a model. Raises DataError for a model that takes no images of one or three channels."""
    if info.kind != "image" or info.input_size[0] not in (1, 3):
        raise DataError(
            f"this model takes {info.kind} input of size {size_text(info.input_size)}; image files have 1 or 3 channels"
        )
    return "grey" if info.input_size[0] == 1 else "rgb"


def prepare_image(image: Tensor, info: DataInfo, *, transform: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Returns a decoded image (C, H, W) as the model takes it: float32 (C, H, W), fitted to the model's size and normalized.

    `transform` is the evaluation's, from `build_eval_transform`; without it images are fitted as `data.image_size`
    does.
    """
    size = (info.input_size[1], info.input_size[2])
    fitted = fit_image(transform(image), size) if transform else fit_image(image, size, info.fit)
    return normalize_inputs(fitted[None], info)[0]
