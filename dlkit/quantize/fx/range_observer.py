"""What our own observers of activations build on, so that they need not know torch.ao."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.ao.quantization.observer import UniformQuantizationObserverBase


class RangeObserver(UniformQuantizationObserverBase):
    """Looks at tensors and picks one range for all of them. `quant_min` and `quant_max` are the codes that it may use."""

    @abstractmethod
    def observe(self, values: Tensor) -> None:
        """Take in one tensor."""

    @abstractmethod
    def pick_range(self) -> tuple[float, float]:
        """The least and the greatest value that get a code. Only called once something was seen."""

    @property
    @abstractmethod
    def has_seen(self) -> bool:
        """Whether there was anything to look at."""

    def forward(self, values: Tensor) -> Tensor:
        """Look at the values and hand them on."""
        if values.numel():
            self.observe(values.detach())
        return values

    def codes_of(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and zero points, of shape (n,), with which `low` to `high` and zero have codes; both are scalars or (n,)."""
        scale, zero_point = self._calculate_qparams(low, high)
        return scale, zero_point

    def calculate_qparams(self, **options: Any) -> tuple[Tensor, Tensor]:
        """Scale and zero point for what was seen; 1 and 0 if that is nothing."""
        if not self.has_seen:
            return torch.ones(1), torch.zeros(1, dtype=torch.int64)
        low, high = self.pick_range()
        return self.codes_of(torch.tensor(low), torch.tensor(high))
