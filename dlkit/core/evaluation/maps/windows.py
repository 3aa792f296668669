"""A picture of any size under a network of one size: overlapping windows, whose probabilities are averaged.

Windows weigh less towards their edges, where a network sees less of what is around (as nnU-Net does, Isensee et al. 2021).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkit.errors import UsageError

Size = tuple[int, int]
MOST_OVERLAP = 0.9


@dataclass(frozen=True)
class Axis:
    """Where windows of a length begin along a side: evenly spread, at least so large a share of each shared with the next."""

    side: int
    window: int
    overlap: float

    @cached_property
    def starts(self) -> list[int]:
        """Returns the first pixel of each window."""
        rest = max(0, self.side - self.window)
        steps = math.ceil(rest / max(1, math.floor(self.window * (1 - self.overlap))))
        return [round(rest * number / steps) for number in range(steps + 1)] if steps else [0]

    @cached_property
    def weights(self) -> Tensor:
        """Returns what each pixel of a window weighs: a triangle, or 1 where there is one window alone."""
        if len(self.starts) == 1:
            return torch.ones(self.window)
        places = torch.arange(self.window) + 0.5
        return torch.minimum(places, self.window - places)

    def totals(self) -> Tensor:
        """Returns the sum of the weights at each pixel of the side, which windows may be longer than."""
        found = torch.zeros(max(self.side, self.window))
        for start in self.starts:
            found[start : start + self.window] += self.weights
        return found


class Mosaic:
    """One picture (C, h, w), and the probabilities of its windows as they come in."""

    def __init__(self, picture: Tensor, size: Size, overlap: float) -> None:
        self.sides: Size = (picture.shape[1], picture.shape[2])
        self.axes = [Axis(side, window, overlap) for side, window in zip(self.sides, size, strict=True)]
        rows, columns = self.axes
        self.corners: list[Size] = list(product(rows.starts, columns.starts))
        self._picture = _grown(picture, size)
        self._sum: Tensor | None = None

    def window(self, corner: Size) -> Tensor:
        """Returns the part of the picture that begins at a corner."""
        return self._picture[self._part(corner)]

    def add(self, corner: Size, probabilities: Tensor) -> None:
        """Take in those of a window, (K, ...)."""
        if self._sum is None:
            self._sum = probabilities.new_zeros(len(probabilities), *self._picture.shape[1:])
        rows, columns = (axis.weights for axis in self.axes)
        self._sum[self._part(corner)] += probabilities * rows[:, None] * columns

    def classes(self, size: Size) -> Tensor:
        """Returns the likeliest class of each pixel of the picture at a size of its own: uint8 (H, W)."""
        assert self._sum is not None
        rows, columns = (axis.totals() for axis in self.axes)
        mean = (self._sum / (rows[:, None] * columns))[:, : self.sides[0], : self.sides[1]]
        return mean.argmax(0).byte() if size == self.sides else _scaled_argmax(mean, size)

    def _part(self, corner: Size) -> tuple[slice, slice, slice]:
        rows, columns = (slice(at, at + axis.window) for at, axis in zip(corner, self.axes, strict=True))
        return slice(None), rows, columns


def pick_overlap(overlap: float | None) -> float:
    """Returns the share that windows have in common, half if not said. Raises UsageError for one that cannot be."""
    if overlap is not None and not 0 <= overlap <= MOST_OVERLAP:
        raise UsageError(f"--overlap is a share of the window, from 0 to {MOST_OVERLAP}; got {overlap:g}")
    return 0.5 if overlap is None else overlap


def _grown(picture: Tensor, size: Size) -> Tensor:
    """A picture at least that high and wide: its last row and column are repeated."""
    rows, columns = (
        torch.arange(max(side, least)).clamp(max=side - 1) for side, least in zip(picture.shape[1:], size, strict=True)
    )
    return picture[:, rows][:, :, columns]


def _scaled_argmax(maps: Tensor, size: Size) -> Tensor:
    """The largest of maps (K, h, w) at each pixel of another size, one map at a time: all would not fit where pictures are large."""
    best, found = maps.new_full(size, -math.inf), torch.zeros(size, dtype=torch.uint8)
    for number, one in enumerate(maps):
        scaled = F.interpolate(one[None, None], size, mode="bilinear", antialias=True)[0, 0]
        found[scaled > best] = number
        best = torch.maximum(best, scaled)
    return found
