"""Observers of activations that torch.ao lacks: percentile and least squared error.

Both count values in a histogram of fixed size, so that memory is bounded, and neither the order nor the size of the batches
matters. One range serves the whole tensor, as the int8 kernels need it.
"""

from typing import Any

import torch
from torch import Tensor

from dlkit.quantize.fx import RangeObserver
from dlkit.quantize.histogram import Histogram

PERCENTILE = 99.99
_COARSE = torch.linspace(0.02, 1.0, 50)
_FINE = torch.linspace(0.95, 1.05, 11)


class _HistogramObserver(RangeObserver):
    """Counts what it sees."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen = Histogram()

    @property
    def has_seen(self) -> bool:
        return self.seen.exponent is not None

    def observe(self, values: Tensor) -> None:
        self.seen.add(values)


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
        scale, zero_point = (column.double().unsqueeze(1) for column in self.codes_of(lows, highs))
        codes = (centers / scale).round_().add_(zero_point).clamp_(self.quant_min, self.quant_max)
        errors = codes.sub_(zero_point).mul_(scale).sub_(centers).square_() @ counts
        index = int(errors.argmin())
        return lows[index].item(), highs[index].item()
