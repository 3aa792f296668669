"""Rounding as int8 will, while a network trains: of activations, with a range that follows them, and of weights.

The gradient passes where a value is not cut off (Bengio et al. 2013, arXiv:1308.3432), as torch.fake_quantize_* has it.
"""

import torch
from torch import Tensor, nn

from dlkit.quantize.int8 import Affine, weight_scale
from dlkit.quantize.observe.observers import EVERYTHING, clamped
from dlkit.quantize.recipe import Recipe

AVERAGING = 0.01  # the share of each batch in a moving range, as in torch's recipes


class ActivationRounding(nn.Module):
    """Rounds activations to codes. While `is_observing`, its range follows theirs as a moving average; `is_on` switches rounding.

    Values outside of `bounds` are clamped first.
    """

    low: Tensor
    high: Tensor

    def __init__(self, *, highest: int = 255) -> None:
        super().__init__()
        self.highest, self.bounds = highest, EVERYTHING
        self.is_observing, self.is_on = True, True
        self.register_buffer("low", torch.tensor(torch.inf))
        self.register_buffer("high", torch.tensor(-torch.inf))

    def forward(self, values: Tensor) -> Tensor:
        """The values that int8 will have."""
        values = clamped(values, self.bounds)
        if self.is_observing and values.numel():
            self._follow(values.detach())
        if not self.is_on:
            return values
        scale, zero_point = self._mapping()
        return torch.fake_quantize_per_tensor_affine(values, scale, zero_point, 0, self.highest)

    def _follow(self, values: Tensor) -> None:
        low, high = values.float().aminmax()
        is_first = self.low > self.high
        self.low.copy_(torch.where(is_first, low, self.low + AVERAGING * (low - self.low)))
        self.high.copy_(torch.where(is_first, high, self.high + AVERAGING * (high - self.high)))

    def _mapping(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point, as `affine_of` finds them for one range."""
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        scale = ((high - low) / self.highest).clamp(min=torch.finfo(torch.float32).eps)
        return scale, (-low / scale).round().clamp(0, self.highest).int()

    def affine(self) -> Affine:
        """How values map to codes; scale 1 and zero point 0 if nothing was seen."""
        if bool(self.low > self.high):
            return Affine(1.0, 0)
        scale, zero_point = self._mapping()
        return Affine(float(scale), int(zero_point))

    def take_range(self, affine: Affine) -> None:
        """Begin with the range of a calibrated tensor."""
        self.low.fill_((affine.lowest - affine.zero_point) * affine.scale)
        self.high.fill_((self.highest - affine.zero_point) * affine.scale)


class WeightRounding(nn.Module):
    """Rounds a weight (O, ...) to codes, by the scales that its int8 layer will have."""

    def __init__(self, *, is_per_channel: bool, bits: int) -> None:
        super().__init__()
        self.is_per_channel, self.bits, self.is_on = is_per_channel, bits, True

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that int8 will have."""
        if not self.is_on:
            return weight
        top = 2 ** (self.bits - 1)
        scale = weight_scale(weight, axis=0 if self.is_per_channel else None, bits=self.bits)
        if not self.is_per_channel:
            zero_point = torch.zeros(1, dtype=torch.int32, device=weight.device)
            return torch.fake_quantize_per_tensor_affine(weight, scale, zero_point, -top, top - 1)
        zero_points = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero_points, 0, -top, top - 1)


def build_activation_rounding(recipe: Recipe) -> ActivationRounding:
    """For a recipe."""
    return ActivationRounding(highest=recipe.highest_code)


def build_weight_rounding(recipe: Recipe) -> WeightRounding:
    """For a recipe."""
    return WeightRounding(is_per_channel=recipe.is_per_channel, bits=recipe.weight_bits)
