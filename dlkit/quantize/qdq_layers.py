"""Layers that ONNX sees as DequantizeLinear, a float operation and QuantizeLinear, the form that runtimes fuse to int8.

They stand for shapes only: torch's `symbolic` operations compute zeros, and ONNX Runtime does the arithmetic.
Formats: onnx.ai, operators QuantizeLinear and DequantizeLinear; ONNX Runtime, "Quantize ONNX models", section QDQ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.onnx.ops import symbolic

STORED = {torch.quint8: torch.uint8, torch.qint8: torch.int8}
INT32_MAX = 2**31 - 1
CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}


@dataclass(frozen=True)
class Grid:
    """Where an activation's integers lie: `real = scale * (integer - zero_point)`, integers of `dtype` (uint8, int8)."""

    scale: float
    zero_point: int
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> Self:
        """The grid of a quantized tensor."""
        return cls(tensor.q_scale(), tensor.q_zero_point(), STORED[tensor.dtype])


def dequantize(integers: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None = None) -> Tensor:
    """DequantizeLinear, per tensor or with one scale for each index of an axis."""
    inputs = (integers, scale, zero_point)
    return symbolic(
        "DequantizeLinear",
        inputs,
        {} if axis is None else {"axis": axis},
        dtype=torch.float32,
        shape=integers.shape,
    )


class Requantize(nn.Module):
    """QuantizeLinear to a grid, then DequantizeLinear: where torch holds a quantized tensor.

    `floor_at_zero` is a fused ReLU. It needs an operation of its own only where the grid goes below zero.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid, *, floor_at_zero: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.is_clipped = floor_at_zero and grid.zero_point > torch.iinfo(grid.dtype).min
        self.register_buffer("scale", torch.tensor(grid.scale, dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor(grid.zero_point, dtype=grid.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Real numbers in, the nearest ones on the grid out."""
        inputs = (x, self.scale, self.zero_point)
        integers = symbolic("QuantizeLinear", inputs, dtype=self.grid.dtype, shape=x.shape)
        if self.is_clipped:  # on integers, where it is cheap and keeps the convolution before it fusible
            integers = symbolic("Clip", (integers, self.zero_point), dtype=self.grid.dtype, shape=x.shape)
        return dequantize(integers, self.scale, self.zero_point)


class Int8Weights(nn.Module):
    """An int8 weight with its scales, and the bias as int32 on the grid of the sums, as integer kernels add it."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor
    bias_scale: Tensor
    bias_zero_point: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, input_scale: float) -> None:
        super().__init__()
        integers, scale, zero_point, self.axis = weight_parts(weight)
        self.has_bias = bias is not None
        if bias is not None:
            bias = bias.detach().double()
            integers, scale = _make_room(integers, scale, bias, input_scale=input_scale)
            bias_scale = (scale.double() * input_scale).float().expand(len(bias)).contiguous()
            rounded = (bias / bias_scale.double()).round().clamp(-INT32_MAX, INT32_MAX)
            self.register_buffer("bias", rounded.to(torch.int32))
            self.register_buffer("bias_scale", bias_scale)
            self.register_buffer("bias_zero_point", torch.zeros(len(bias), dtype=torch.int32))
        self.register_buffer("weight", integers)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero_point", zero_point)

    def real_weights(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the bias as real numbers."""
        weight = dequantize(self.weight, self.weight_scale, self.weight_zero_point, self.axis)
        if not self.has_bias:
            return weight, None
        return weight, dequantize(self.bias, self.bias_scale, self.bias_zero_point, 0)


def weight_parts(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, int | None]:
    """Integers, float32 scales, zero points and axis (None: one scale for all) of a quantized weight."""
    if weight.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric):
        scale, zero_point = weight.q_per_channel_scales(), weight.q_per_channel_zero_points()
        return weight.int_repr(), scale.float(), zero_point.to(torch.int8), weight.q_per_channel_axis()
    scale, zero_point = torch.tensor(weight.q_scale()), torch.tensor(weight.q_zero_point(), dtype=torch.int8)
    return weight.int_repr(), scale.float(), zero_point, None


def _make_room(integers: Tensor, scale: Tensor, bias: Tensor, *, input_scale: float) -> tuple[Tensor, Tensor]:
    """Coarser scales for channels whose bias would leave int32: those with next to no weights, as pruning leaves them."""
    least = (bias.abs() / (input_scale * INT32_MAX)).float() * (1 + 1e-6)
    least = least if scale.ndim else least.max()
    if not bool((least > scale).any()):
        return integers, scale
    wider = torch.maximum(scale, least)
    ratio = (scale / wider).reshape(-1, *[1] * (integers.ndim - 1))
    return (integers * ratio).round().to(torch.int8), wider


class QdqConv(Int8Weights):
    """A convolution of an int8 layer of torch, transposed ones included; `grid` is that of its input."""

    def __init__(self, layer: Any, grid: Grid, *, is_transposed: bool = False) -> None:
        weight = layer.weight()
        super().__init__(weight, layer.bias(), grid.scale)
        self.convolve = (TRANSPOSED if is_transposed else CONVOLUTIONS)[weight.ndim]
        self.options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
        if is_transposed:
            self.options["output_padding"] = layer.output_padding
        self.border = None
        if layer.padding_mode == "zeros":
            self.options["padding"] = layer.padding
        else:
            self.border = _Border(layer.padding, layer.padding_mode, grid)

    def forward(self, x: Tensor) -> Tensor:
        """The sums, not yet on a grid."""
        weight, bias = self.real_weights()
        x = x if self.border is None else self.border(x)
        result: Tensor = self.convolve(x, weight, bias, **self.options)
        return result


class _Border(nn.Module):
    """Padding by what is there; back on the grid, without which the convolution behind it is no int8 one."""

    def __init__(self, padding: Sequence[int], mode: str, grid: Grid) -> None:
        super().__init__()
        self.sides, self.mode = [side for amount in reversed(padding) for side in (amount, amount)], mode
        self.grid = Requantize(grid)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.grid(F.pad(x, self.sides, mode=self.mode))
        return result


class QdqLinear(Int8Weights):
    """A linear layer of int8 weights, with one axis for samples: what ONNX Runtime has one integer kernel for.

    More axes are folded into one before and unfolded after, on integers; `rows` is the input's grid, `sums` the output's.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: Grid, sums: Grid | None) -> None:
        super().__init__(weight, bias, rows.scale)
        self.rows = Requantize(rows)
        self.sums = Requantize(sums) if sums else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The sums; on their grid only where axes were folded."""
        weight, bias = self.real_weights()
        if x.ndim == 2:
            return F.linear(x, weight, bias)
        rows = self.rows(x.reshape(-1, x.shape[-1]))
        sums: Tensor = self.sums(F.linear(rows, weight, bias))
        return sums.reshape(*x.shape[:-1], len(weight))


class AsFloat(nn.Module):
    """A layer of torch whose int8 class keeps the float weights: run by the float class that it inherits from."""

    def __init__(self, layer: nn.Module, float_class: type[nn.Module]) -> None:
        super().__init__()
        self.layer, self.float_class = layer, float_class

    def forward(self, x: Tensor) -> Tensor:
        """Run the float layer."""
        result: Tensor = self.float_class.forward(self.layer, x)
        return result
