"""Exact arithmetic in float64 on any device: slow, and what all other kernels are compared with.

A sum of products of codes is a whole number below 2**53, so that float64 has it exactly. Where a library computes a convolution by
Fourier transform it errs by far less than a half; sums are rounded to whole numbers before anything else is done to them.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.activations import activate
from dlkit.quantize.int8.arithmetic import (
    dequantize,
    quantize,
    range_affine,
    real_values,
    requantize,
    round_steps,
    to_float64,
)
from dlkit.quantize.int8.kernels.plain import average, clamp, interpolate, lookup, max_pool, pad
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.pointwise import Dequantize, Int8Add, Int8Cat, Int8Clamp, Int8Lookup, Int8Mul, Quantize
from dlkit.quantize.int8.pooling import Int8AdaptiveAvgPool, Int8AvgPool, Int8MaxPool, Int8Pad, Int8Resize
from dlkit.quantize.int8.products import (
    Int8Conv,
    Int8Conv1d,
    Int8Conv2d,
    Int8Conv3d,
    Int8DynamicLinear,
    Int8Linear,
    Int8Product,
)

CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class ReferenceKernels:
    """Every layer, exactly."""

    name = "reference"
    missing = ""

    def is_available(self) -> bool:
        """Always."""
        return True

    def supports(self, layer: Int8Layer) -> bool:
        """All layers there are."""
        return type(layer) in _RUN

    def pack(self, layer: Int8Layer) -> dict[str, Any]:
        """Nothing."""
        return {}

    def run(self, layer: Int8Layer, *inputs: Tensor) -> Tensor:
        """The exact output."""
        return _RUN[type(layer)](layer, *inputs)


def _convolve(layer: Int8Conv, x: Tensor, residual: Tensor | None = None) -> Tensor:
    assert layer.x is not None
    centered, weight = to_float64(x) - layer.x.zero_point, to_float64(layer.weight)
    sums = CONVOLVE[layer.num_dimensions](
        centered, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    return _finish(layer, sums.round_(), residual, (-1,) + (1,) * layer.num_dimensions).to(x.device)


def _multiply(layer: Int8Linear, x: Tensor, residual: Tensor | None = None) -> Tensor:
    assert layer.x is not None
    sums = F.linear(to_float64(x) - layer.x.zero_point, to_float64(layer.weight))
    return _finish(layer, sums.round_(), residual, (-1,)).to(x.device)


def _finish(layer: Int8Product, sums: Tensor, residual: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Sums as real numbers, with all that follows them."""
    assert layer.x is not None
    real = sums * (layer.x.scale * to_float64(layer.channel_scale())).view(shape)
    if layer.bias is not None:
        real = real + to_float64(layer.bias).view(shape)
    if residual is not None:
        assert layer.residual is not None
        real = real + real_values(residual, layer.residual)
    real = activate(real, layer.activation)
    return real.float() if layer.y is None else quantize(real, layer.y)


def _multiply_dynamic(layer: Int8DynamicLinear, x: Tensor) -> Tensor:
    if not x.numel():
        return x.new_zeros(*x.shape[:-1], len(layer.weight))
    scale, zero_point = range_affine(x)
    codes = round_steps(x / scale, zero_point, torch.uint8)
    sums = F.linear(to_float64(codes) - zero_point, to_float64(layer.weight)).round_()
    real: Tensor = sums * (scale * to_float64(layer.channel_scale()))
    real = real if layer.bias is None else real + to_float64(layer.bias)
    return real.float().to(x.device)


def _add(layer: Int8Add, x: Tensor, other: Tensor) -> Tensor:
    real = real_values(x, layer.x) + real_values(other, layer.other)
    return quantize(activate(real, layer.activation), layer.y).to(x.device)


def _mul(layer: Int8Mul, x: Tensor, other: Tensor) -> Tensor:
    return quantize(real_values(x, layer.x) * real_values(other, layer.other), layer.y).to(x.device)


def _cat(layer: Int8Cat, *inputs: Tensor) -> Tensor:
    pairs = zip(inputs, layer.inputs, strict=True)
    return torch.cat([requantize(x, affine, layer.y) for x, affine in pairs], layer.dim)


def _resize(layer: Int8Resize, x: Tensor, size: Any = None) -> Tensor:
    steps = interpolate(layer, to_float64(x) - layer.x.zero_point, size)
    return round_steps(steps * (layer.x.scale / layer.y.scale), layer.y.zero_point, layer.y.dtype).to(x.device)


def _mean(layer: Int8AvgPool | Int8AdaptiveAvgPool, x: Tensor) -> Tensor:
    means = average(layer, to_float64(x) - layer.x.zero_point, torch.float64)
    # for equal scales the ratio is 1, so that a mean of x.5 stays one and is rounded half to even
    return round_steps(means * (layer.x.scale / layer.y.scale), layer.y.zero_point, layer.y.dtype).to(x.device)


_RUN: dict[type[Int8Layer], Callable[..., Tensor]] = {
    Quantize: lambda layer, x: quantize(x, layer.y),
    Dequantize: lambda layer, x: dequantize(x, layer.x),
    Int8Conv1d: _convolve,
    Int8Conv2d: _convolve,
    Int8Conv3d: _convolve,
    Int8Linear: _multiply,
    Int8DynamicLinear: _multiply_dynamic,
    Int8Add: _add,
    Int8Mul: _mul,
    Int8Cat: _cat,
    Int8Clamp: lambda layer, x: clamp(layer, x),
    Int8Lookup: lambda layer, x: lookup(layer, x),
    Int8MaxPool: lambda layer, x: max_pool(layer, x),
    Int8Pad: lambda layer, x: pad(layer, x),
    Int8Resize: _resize,
    Int8AvgPool: lambda layer, x: _mean(layer, x),
    Int8AdaptiveAvgPool: lambda layer, x: _mean(layer, x),
}
