"""Observers of activations: which range of values gets codes.

All but the simplest count values in a histogram of fixed size, so that memory is bounded, and neither the order nor the size of the
batches matters. One range serves the whole tensor, as the int8 kernels need it.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.choices import Observer
from dlkit.quantize.int8 import Affine
from dlkit.quantize.observe.histogram import Histogram, NotANumber
from dlkit.quantize.recipe import Recipe

PERCENTILE = 99.99
Bounds = tuple[float, float]
EVERYTHING: Bounds = (-math.inf, math.inf)
_COARSE = torch.linspace(0.02, 1.0, 50)
_FINE = torch.linspace(0.95, 1.05, 11)


def affine_of(low: float, high: float, highest: int) -> Affine:
    """The mapping with codes 0 to `highest` for `low` to `high` and zero, which always has a code."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / highest, torch.finfo(torch.float32).eps)
    return Affine(scale, min(max(round(-low / scale), 0), highest))


def clamped(values: Tensor, bounds: Bounds) -> Tensor:
    """The values within the bounds; the same tensor where there are none."""
    return values if bounds == EVERYTHING else values.clamp(*bounds)


class RangeObserver(nn.Module):
    """Looks at tensors and picks one range for all of them. Values outside of `bounds` are clamped first, and handed on so:
    nothing behind tells them apart. `highest` is the last code that the range may use.
    """

    def __init__(self, *, highest: int = 255) -> None:
        super().__init__()
        self.highest = highest
        self.bounds = EVERYTHING
        self._affine: Affine | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Look at the values and hand them on."""
        values = clamped(values, self.bounds)
        if values.numel():
            self.observe(values.detach())
            self._affine = None
        return values

    @abstractmethod
    def observe(self, values: Tensor) -> None:
        """Take in one tensor."""

    @abstractmethod
    def clear(self) -> None:
        """Forget all that was seen."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Take in all that an observer of the same kind has seen."""

    @abstractmethod
    def pick_range(self) -> Bounds:
        """The least and the greatest value that get a code. Only called once something was seen."""

    @property
    @abstractmethod
    def has_seen(self) -> bool:
        """Whether there was anything to look at."""

    def affine(self) -> Affine:
        """How values map to codes; scale 1 and zero point 0 if nothing was seen."""
        if self._affine is None:
            self._affine = affine_of(*self.pick_range(), self.highest) if self.has_seen else Affine(1.0, 0)
        return self._affine


class MinMaxObserver(RangeObserver):
    """All that was seen."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.clear()

    def clear(self) -> None:  # noqa: D102
        self.low, self.high, self._affine = math.inf, -math.inf, None

    @property
    def has_seen(self) -> bool:  # noqa: D102
        return self.low <= self.high

    def observe(self, values: Tensor) -> None:  # noqa: D102
        low, high = (bound.item() for bound in values.aminmax())
        if math.isnan(low):
            raise NotANumber("a value is not a number")
        self.low, self.high = min(self.low, low), max(self.high, high)

    def merge(self, other: "MinMaxObserver") -> None:  # noqa: D102
        self.low, self.high, self._affine = min(self.low, other.low), max(self.high, other.high), None

    def pick_range(self) -> Bounds:
        """Both ends."""
        return self.low, self.high


class _HistogramObserver(RangeObserver):
    """Counts what it sees."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.clear()

    def clear(self) -> None:
        self.seen, self._affine = Histogram(), None

    @property
    def has_seen(self) -> bool:
        return self.seen.exponent is not None

    def observe(self, values: Tensor) -> None:
        self.seen.add(values)

    def merge(self, other: "_HistogramObserver") -> None:
        self.seen.merge(other.seen)
        self._affine = None


class PercentileObserver(_HistogramObserver):
    """Cuts off the same share of values on both sides, 0.01 % unless told otherwise; robust to outliers of any size."""

    def __init__(self, *, percentile: float = PERCENTILE, **options: Any) -> None:
        super().__init__(**options)
        self.percentile = percentile

    def pick_range(self) -> tuple[float, float]:
        """The two percentiles."""
        outside = 1 - self.percentile / 100
        return self.seen.quantile(outside), self.seen.quantile(1 - outside)


class MSEObserver(_HistogramObserver):
    """The range whose rounding and cutting off give the least mean squared error together.

    Both ends are searched together first, then each on its own with the other fixed: coarsely everywhere, then finely around
    the best. Steps are a fiftieth, then a hundredth of the best.
    """

    def pick_range(self) -> tuple[float, float]:
        """The best range that the search finds."""
        least, greatest = self.seen.least, self.seen.greatest
        low, high = self._best(least * _COARSE, greatest * _COARSE)
        for _ in range(2):
            low, high = self._best(torch.tensor(low), greatest * _COARSE)
            low, high = self._best(least * _COARSE, torch.tensor(high))
        for _ in range(2):
            low, high = self._best(torch.tensor(low), (high * _FINE).clamp(max=greatest))
            low, high = self._best((low * _FINE).clamp(min=least), torch.tensor(high))
        return low, high

    def _best(self, lows: Tensor, highs: Tensor) -> tuple[float, float]:
        """The pair with the least error; one of the two may be a single number that goes with all of the other."""
        num_pairs = max(lows.numel(), highs.numel())
        lows, highs = lows.expand(num_pairs), highs.expand(num_pairs)
        centers, counts = self.seen.bins()
        lows, highs = lows.double().clamp(max=0), highs.double().clamp(min=0)
        scale = ((highs - lows) / self.highest).clamp(min=torch.finfo(torch.float32).eps).unsqueeze(1)
        zero_point = (-lows.unsqueeze(1) / scale).round()
        codes = (centers / scale).round_().add_(zero_point).clamp_(0, self.highest)
        errors = codes.sub_(zero_point).mul_(scale).sub_(centers).square_() @ counts
        index = int(errors.argmin())
        return lows[index].item(), highs[index].item()


OBSERVERS: dict[Observer, Callable[..., RangeObserver]] = {
    "histogram": MSEObserver,
    "mse": MSEObserver,
    "minmax": MinMaxObserver,
    "percentile": PercentileObserver,
}


def build_range_observer(recipe: Recipe) -> RangeObserver:
    """The recipe's observer of activations."""
    return OBSERVERS[recipe.observer](highest=recipe.highest_code)
