"""Layers that ONNX sees as DequantizeLinear, a float operation and QuantizeLinear, the form that runtimes fuse to int8.

They stand for shapes only: torch's `symbolic` operations compute zeros, and ONNX Runtime does the arithmetic.
Formats: onnx.ai, operators QuantizeLinear and DequantizeLinear; ONNX Runtime, "Quantize ONNX models", section QDQ.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from dlkit.quantize.int8 import Affine, Int8Conv, Int8ConvTranspose, Int8Linear, Int8Product, activate

INT32_MAX = 2**31 - 1
CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CLAMPS = {"relu": (0.0, float("inf")), "relu6": (0.0, 6.0)}


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
    """QuantizeLinear, then DequantizeLinear: where a program holds codes. Codes are clipped to what `bounds`, real numbers, become."""

    scale: Tensor
    zero_point: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, affine: Affine, bounds: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.affine = affine
        low, high = (affine.lowest, affine.highest) if bounds is None else map(affine.code_of, bounds)
        self.is_clipped = (low, high) != (affine.lowest, affine.highest)
        self.register_buffer("scale", torch.tensor(affine.scale, dtype=torch.float32))
        for name, code in (("zero_point", affine.zero_point), ("low", low), ("high", high)):
            self.register_buffer(name, torch.tensor(code, dtype=affine.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Real numbers in, the nearest ones that codes stand for out."""
        dtype = self.affine.dtype
        codes = symbolic("QuantizeLinear", (x, self.scale, self.zero_point), dtype=dtype, shape=x.shape)
        if self.is_clipped:  # on integers, where it is cheap and keeps the convolution before it fusible
            codes = symbolic("Clip", (codes, self.low, self.high), dtype=dtype, shape=x.shape)
        return dequantize(codes, self.scale, self.zero_point)


def bounds_of(layer: nn.Module) -> tuple[float, float] | None:
    """What a fused clamp lets through, where it can be one of codes."""
    layer = layer.phases if isinstance(layer, Int8ConvTranspose) else layer
    has_codes = getattr(layer, "y", None) is not None
    return CLAMPS.get(str(getattr(layer, "activation", "none"))) if has_codes else None


class QdqProduct(nn.Module):
    """An int8 weight with its scales, and the bias as int32 on the scale of the sums, as integer kernels add it."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor
    bias_scale: Tensor
    bias_zero_point: Tensor

    def __init__(self, layer: Int8Product) -> None:
        super().__init__()
        assert layer.x is not None
        self.y, self.bounds, self.activation = layer.y, bounds_of(layer), layer.activation
        codes, scale = layer.weight, layer.weight_scale
        scale = scale if len(scale) == len(codes) and len(scale) > 1 else scale[0]
        self.axis = 0 if scale.ndim else None
        self.has_bias = layer.bias is not None
        self.inner = nn.Identity() if layer.inner is None else Requantize(layer.inner)
        if layer.bias is not None:
            bias, input_scale = layer.bias.detach().double(), layer.x.scale
            codes, scale = _make_room(codes, scale, bias, input_scale=input_scale)
            bias_scale = (scale.double() * input_scale).float().expand(len(bias)).contiguous()
            rounded = (bias / bias_scale.double()).round().clamp(-INT32_MAX, INT32_MAX)
            self.register_buffer("bias", rounded.to(torch.int32))
            self.register_buffer("bias_scale", bias_scale)
            self.register_buffer("bias_zero_point", torch.zeros(len(bias), dtype=torch.int32))
        self.register_buffer("weight", codes)
        self.register_buffer("weight_scale", scale.contiguous())
        self.register_buffer("weight_zero_point", torch.zeros_like(scale, dtype=torch.int8))

    def real_weights(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the bias as real numbers."""
        weight = dequantize(self.weight, self.weight_scale, self.weight_zero_point, self.axis)
        if not self.has_bias:
            return weight, None
        return weight, dequantize(self.bias, self.bias_scale, self.bias_zero_point, 0)

    def finish(self, sums: Tensor, residual: Tensor | None) -> Tensor:
        """What is fused in, apart from the product as runtimes have it; a clamp that is one of codes is left to `Requantize`."""
        sums = self.inner(sums)
        sums = sums if residual is None else sums + residual
        return sums if self.bounds else activate(sums, self.activation)


def _make_room(codes: Tensor, scale: Tensor, bias: Tensor, *, input_scale: float) -> tuple[Tensor, Tensor]:
    """Coarser scales for channels whose bias would leave int32: those with next to no weights, as pruning leaves them."""
    least = (bias.abs() / (input_scale * INT32_MAX)).float() * (1 + 1e-6)
    least = least if scale.ndim else least.max()
    if not bool((least > scale).any()):
        return codes, scale
    wider = torch.maximum(scale, least)
    ratio = (scale / wider).reshape(-1, *[1] * (codes.ndim - 1))
    return (codes * ratio).round().to(torch.int8), wider


class QdqConv(QdqProduct):
    """A convolution, not yet back on codes."""

    def __init__(self, layer: Int8Conv) -> None:
        super().__init__(layer)
        self.convolve, self.groups = CONVOLVE[layer.num_dimensions], layer.groups
        self.options: dict[str, Any] = {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The sums and what is fused in."""
        return self.finish(self.convolve(x, *self.real_weights(), groups=self.groups, **self.options), residual)


class QdqLinear(QdqProduct):
    """A linear layer of int8 weights, with one axis for samples: what ONNX Runtime has one integer kernel for.

    More axes are folded into one before and unfolded after, on codes; `rows` are those of the input.
    """

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__(layer)
        assert layer.x is not None
        self.rows = Requantize(layer.x)
        self.sums = nn.Identity() if layer.y is None else Requantize(layer.y, self.bounds)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The sums and what is fused in; on codes only where axes were folded."""
        if x.ndim == 2:
            return self.finish(F.linear(x, *self.real_weights()), residual)
        sums = F.linear(self.rows(x.reshape(-1, x.shape[-1])), *self.real_weights())
        flat = None if residual is None else residual.reshape(sums.shape)
        result: Tensor = self.sums(self.finish(sums, flat))
        return result.reshape(*x.shape[:-1], len(self.weight))


class QdqPhases(QdqConv):
    """The convolution in a transposed one: on codes before its phases are interleaved."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """All phases."""
        sums = super().forward(x, residual)
        return sums if self.y is None else self.on_codes(sums)

    def __init__(self, layer: Int8Conv) -> None:
        super().__init__(layer)
        self.on_codes = nn.Identity() if layer.y is None else Requantize(layer.y, self.bounds)


def transposed(layer: Int8ConvTranspose) -> nn.Module:
    """A transposed convolution as the convolution of its phases, which runtimes have int8 kernels for, and their interleaving."""
    return Int8ConvTranspose(QdqPhases(layer.phases), layer.plan)  # type: ignore[arg-type]
