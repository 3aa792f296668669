"""Affine quantization of plain tensors: code = round(value / scale) + zero_point, exact.

Everything here is computed in float64, where products of codes and their sums are exact, and rounded half to even, as the
kernels of torch and of ONNX Runtime round.
"""

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CODES = {torch.uint8: (0, 255), torch.int8: (-128, 127)}
WEIGHT_BITS = (7, 8)


@dataclass(frozen=True)
class Affine:
    """How one scale and one zero point map a whole tensor to codes of 8 bits.

    The scale is rounded to float32, so that every kernel, whichever it takes, computes with the same number. Raises ValueError
    for what no kernel can use.
    """

    scale: float
    zero_point: int
    dtype: torch.dtype = torch.uint8

    def __post_init__(self) -> None:
        scale = ctypes.c_float(self.scale).value
        if not (0 < scale < math.inf):
            raise ValueError(f"a scale must be a finite number above 0, not {self.scale!r}")
        if self.dtype not in CODES:
            raise ValueError(f"codes are uint8 or int8, not {self.dtype}")
        if not self.lowest <= self.zero_point <= self.highest:
            raise ValueError(f"zero point {self.zero_point} is no {self.dtype}")
        object.__setattr__(self, "scale", scale)

    @property
    def lowest(self) -> int:
        """The lowest code."""
        return CODES[self.dtype][0]

    @property
    def highest(self) -> int:
        """The highest code."""
        return CODES[self.dtype][1]

    def code_of(self, value: float) -> int:
        """The code of one number, without a tensor, so that it can be asked for while a graph is traced."""
        steps = value / self.scale
        if math.isinf(steps):
            return self.highest if steps > 0 else self.lowest
        return min(max(round(steps) + self.zero_point, self.lowest), self.highest)


@dataclass(frozen=True, eq=False)
class ChannelAffine:
    """The same with a scale and a zero point for each place along `axis`: both (C,)."""

    scale: Tensor
    zero_point: Tensor
    axis: int = 0
    dtype: torch.dtype = torch.int8


def quantize(x: Tensor, affine: Affine | ChannelAffine) -> Tensor:
    """Codes of real numbers; what is out of range becomes the lowest or highest code."""
    scale, zero_point = _parts(affine, x)
    return round_steps(to_float64(x) / scale, zero_point, affine.dtype).to(x.device)


def round_steps(steps: Tensor, zero_point: int | Tensor, dtype: torch.dtype) -> Tensor:
    """Codes of numbers that are divided by the scale already; `steps` is overwritten."""
    return steps.round_().add_(zero_point).clamp_(*CODES[dtype]).to(dtype)


def dequantize(codes: Tensor, affine: Affine | ChannelAffine) -> Tensor:
    """The numbers that codes stand for, in float32."""
    return real_values(codes, affine).float().to(codes.device)


def requantize(codes: Tensor, source: Affine, target: Affine) -> Tensor:
    """Codes of one mapping as codes of another."""
    return codes if source == target else quantize(real_values(codes, source), target)


def real_values(codes: Tensor, affine: Affine | ChannelAffine) -> Tensor:
    """The numbers that codes stand for, in float64."""
    scale, zero_point = _parts(affine, codes)
    return (to_float64(codes) - zero_point) * scale


def _parts(affine: Affine | ChannelAffine, x: Tensor) -> tuple[float | Tensor, int | Tensor]:
    if isinstance(affine, Affine):
        return affine.scale, affine.zero_point
    shape = [1] * x.dim()
    shape[affine.axis] = -1
    return to_float64(affine.scale).view(shape), to_float64(affine.zero_point).view(shape)


def to_float64(x: Tensor) -> Tensor:
    """In float64, where it is possible on the same device."""
    return x.cpu().double() if x.device.type == "mps" else x.double()


def unsigned_zero_point(affine: Affine) -> int:
    """The zero point of the same codes as uint8, for kernels that take no other."""
    return affine.zero_point - affine.lowest


def to_unsigned(codes: Tensor, affine: Affine) -> Tensor:
    """The codes as uint8: int8 codes grow by 128."""
    return codes if affine.dtype == torch.uint8 else codes.to(torch.uint8).bitwise_xor_(128)


def from_unsigned(codes: Tensor, affine: Affine) -> Tensor:
    """The inverse of `to_unsigned`."""
    return codes if affine.dtype == torch.uint8 else codes.bitwise_xor(128).to(torch.int8)


def weight_scale(weight: Tensor, *, axis: int | None, bits: int = 8) -> Tensor:
    """The least scales with which a weight fits into symmetric codes, float32, (C,) along `axis` or (1,); nothing is cut off.

    7 bits are for kernels that add two products in 16 bits: 2 * 255 * 64 fits, 2 * 255 * 128 does not.
    """
    if bits not in WEIGHT_BITS:
        raise ValueError(f"weights take 7 or 8 bits, not {bits}")
    top = 2 ** (bits - 1)
    weight = weight.detach()
    others = [place for place in range(weight.dim()) if place != axis]
    low, high = (weight.amin(others), weight.amax(others)) if axis is not None else weight.aminmax()
    steps = torch.maximum(low.double() / -top, high.double() / (top - 1))
    return steps.clamp(min=torch.finfo(torch.float32).tiny).float().view(-1)


def quantize_weight(weight: Tensor, *, axis: int | None, bits: int = 8) -> tuple[Tensor, Tensor]:
    """int8 codes of a weight and their scales, as `weight_scale` finds them."""
    scale, top = weight_scale(weight, axis=axis, bits=bits), 2 ** (bits - 1)
    shape = [-1 if place == axis else 1 for place in range(weight.dim())]
    codes = (to_float64(weight.detach()) / to_float64(scale).view(shape)).round_().clamp_(-top, top - 1)
    return codes.to(torch.int8).to(weight.device), scale


def range_affine(x: Tensor) -> tuple[Any, Any]:
    """Scale and zero point of uint8 codes that just cover a tensor and 0: numbers, or the same as tensors while it is traced."""
    low, high = torch.aminmax(x)
    tiny = torch.finfo(torch.float32).tiny
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        low, high = low.double().clamp(max=0), high.double().clamp(min=0)
        scale = ((high - low) / 255).clamp(min=tiny).float()
        return scale, (-low / scale.double()).round().clamp(0, 255).long()
    bottom, top = min(low.item(), 0.0), max(high.item(), 0.0)
    step = ctypes.c_float(max((top - bottom) / 255, tiny)).value
    return step, min(max(round(-bottom / step), 0), 255)
