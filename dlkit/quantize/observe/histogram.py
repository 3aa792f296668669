"""Counting values of unknown range in bounded memory, with the same counts for every order and batching of them."""

import math

import torch
from torch import Tensor, nn

HALF = 8192
PART = 2**18  # values that are counted at once: what is computed on the way stays in the cache


class NotANumber(ValueError):
    """A value that has no place among others."""


class Histogram(nn.Module):
    """Counts over 2 * 8192 bins of one width, from -R to R. R is the least power of two above all that was seen.

    When R doubles, pairs of bins become one. As all edges are multiples of the width, nothing is split and nothing estimated.
    Infinite values are left out: the network works with them, but no code can stand for them.
    """

    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(2 * HALF, dtype=torch.int64))
        self.least, self.greatest = math.inf, -math.inf
        self.exponent: int | None = None  # R is 2**exponent

    def add(self, values: Tensor) -> None:
        """Count a tensor of any shape. Raises NotANumber when it holds one."""
        values = values.float().flatten()
        if not values.numel():
            return
        least, greatest = (bound.item() for bound in values.aminmax())
        if not (math.isfinite(least) and math.isfinite(greatest)):
            if not values.isinf().any():
                raise NotANumber("a value is not a number")
            self.add(values[values.isfinite()])
            return
        self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
        self._widen(max(-least, greatest))
        for part in torch.split(values, PART):
            bins = part.mul(1 / self.bin_width).floor_().int().add_(HALF)
            self.counts += torch.bincount(bins, minlength=2 * HALF).to(self.counts)

    def merge(self, other: "Histogram") -> None:
        """Count what another histogram has counted: afterwards this one is as if it had seen both."""
        if other.exponent is None:
            return
        self._widen_to(other.exponent)
        other._widen_to(self.exponent)
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        self.counts += other.counts

    def _widen(self, magnitude: float) -> None:
        """Make R greater than this magnitude."""
        # magnitude < 2**needed; below 2**-100 it is zero for float32 purposes
        self._widen_to(max(math.frexp(magnitude)[1], -100) if magnitude else -100)

    def _widen_to(self, needed: int | None) -> None:
        assert needed is not None
        if self.exponent is None:
            self.exponent = needed
        while self.exponent < needed:
            merged = self.counts.reshape(HALF, 2).sum(1)
            self.counts.zero_()
            self.counts[HALF // 2 : HALF // 2 + HALF] = merged
            self.exponent += 1

    @property
    def bin_width(self) -> float:
        """Width of a bin, a power of two."""
        assert self.exponent is not None, "nothing was counted"
        return math.ldexp(1.0, self.exponent) / HALF

    def bins(self) -> tuple[Tensor, Tensor]:
        """Centers and counts of the bins that hold something, both float64 of shape (n,)."""
        held = self.counts.nonzero().flatten()
        return (held.double() - HALF + 0.5) * self.bin_width, self.counts[held].double()

    def quantile(self, fraction: float) -> float:
        """The value below which this fraction lies, to within a bin; 0 and 1 give the least and the greatest exactly."""
        below = self.counts.cumsum(0)
        wanted = fraction * int(below[-1])
        index = int(torch.searchsorted(below, math.ceil(wanted) if wanted else 1))
        left = (min(index, 2 * HALF - 1) - HALF) * self.bin_width
        held = int(self.counts[min(index, 2 * HALF - 1)])
        inside = (wanted - (int(below[index]) - held)) / held
        return min(max(left + inside * self.bin_width, self.least), self.greatest)
