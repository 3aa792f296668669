"""Random boxes of a batch: crops, which keep what is inside, and erasing."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from dlkit.core.data.counter_rng import Draws, integers

_ATTEMPTS = 10


def crop_images(transform: Any, images: Tensor, draws: Draws) -> Tensor:
    """RandomCrop: pad all images alike, then take a window at an offset of its own from each. Raises ValueError when
    one cannot fit.
    """
    height, width = transform.size
    padded = _pad(transform, images)
    rows, columns = padded.shape[-2] - height, padded.shape[-1] - width
    if rows < 0 or columns < 0:
        raise ValueError(
            f"crop size {height}x{width} is larger than the {padded.shape[-2]}x{padded.shape[-1]} image; "
            "padding, or pad_if_needed, helps"
        )
    u = draws.uniforms(2)
    return take_windows(padded, integers(u[:, 0], rows + 1), integers(u[:, 1], columns + 1), size=(height, width))


def _pad(transform: Any, images: Tensor) -> Tensor:
    left, right, top, bottom = transform.padding or (0, 0, 0, 0)
    if transform.pad_if_needed:
        missing_rows = max(0, transform.size[0] - (images.shape[-2] + top + bottom))
        missing_columns = max(0, transform.size[1] - (images.shape[-1] + left + right))
        top, bottom, left, right = (
            top + missing_rows,
            bottom + missing_rows,
            left + missing_columns,
            right + missing_columns,
        )
    if not any((left, right, top, bottom)):
        return images
    if transform.padding_mode == "constant" and not isinstance(transform.fill, list | tuple | dict):
        return pad(images, [left, right, top, bottom], value=transform.fill or 0)
    fill = list(transform.fill) if isinstance(transform.fill, list | tuple) else transform.fill
    from torchvision.transforms.v2 import functional as F  # takes two seconds to import

    padded: Tensor = F.pad(images, [left, top, right, bottom], fill=fill, padding_mode=transform.padding_mode)
    return padded


def take_windows(images: Tensor, tops: Tensor, lefts: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Returns a window of `size` from each image, at its own top and left: (N, C, height, width).

    Every row of a window is a run of adjacent memory. A view whose row k holds the `width` elements from k on turns the
    whole job into one index_select of such rows, tens of times faster than indexing pixel by pixel.
    """
    images = images.contiguous()
    N, C, H, W = images.shape
    height, width = size
    runs = images.view(-1).as_strided((images.numel() - width + 1, width), (1, 1))
    planes = torch.arange(N * C).view(N, C, 1) * H
    rows = tops[:, None, None] + torch.arange(height)
    starts = (planes + rows) * W + lefts[:, None, None]
    return runs.index_select(0, starts.view(-1).to(images.device)).view(N, C, height, width)


def erase_images(transform: Any, images: Tensor, draws: Draws) -> Tensor:
    """RandomErasing with a fixed value; an image whose ten boxes are all too large stays whole, as in torchvision."""
    height, width = images.shape[-2:]
    u = draws.uniforms(3)
    box_height, box_width = draw_boxes(transform, draws.stage(1), (height, width))
    top, left = integers(u[:, 1], height - box_height + 1), integers(u[:, 2], width - box_width + 1)
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= top[:, None]) & (y < (top + box_height)[:, None])
    columns = (x >= left[:, None]) & (x < (left + box_width)[:, None])
    erased = u[:, 0] < transform.p
    # zeros and ones in bytes: combining and applying them is exact, and five times faster than masks with torch.where
    rows, columns = (rows & erased[:, None]).to(images.dtype), columns.to(images.dtype)
    inside = (rows[:, None, :, None] * columns[:, None, None, :]).to(images.device)
    value = torch.tensor(transform.value).to(images.dtype).view(1, -1, 1, 1).to(images.device)
    if value.shape[1] not in (1, images.shape[1]):
        raise ValueError(f"value needs one number, or one for each of the {images.shape[1]} channels")
    result: Tensor = images * (1 - inside) + inside * value
    return result


def draw_boxes(transform: Any, draws: Draws, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Height and width of each sample's box (N,); 0 where none of its attempts was smaller than the image."""
    u = draws.uniforms(2 * _ATTEMPTS)
    area = size[0] * size[1] * (transform.scale[0] + u[:, :_ATTEMPTS] * (transform.scale[1] - transform.scale[0]))
    low, high = torch.tensor(transform.ratio, dtype=torch.float64).log().tolist()
    ratio = (low + u[:, _ATTEMPTS:] * (high - low)).exp()
    heights, widths = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    small = (heights < size[0]) & (widths < size[1])
    first = small.int().argmax(1, keepdim=True)
    fits = small.any(1)
    return heights.gather(1, first)[:, 0] * fits, widths.gather(1, first)[:, 0] * fits
