"""Layers with weights: convolutions and linear layers, with what follows them fused in."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from dlkit.quantize.int8.arithmetic import Affine, ChannelAffine, dequantize, quantize_weight
from dlkit.quantize.int8.layer import Epilogue, Int8Layer

LARGEST_DEPTH = (2**31 - 1) // (255 * 128)  # products that an int32 sum is sure to hold


class Int8Product(Int8Layer):
    """A layer that adds products of codes and weights: y = activation(scales * sums + bias + residual).

    Weight (O, ...) int8; weight scale (O,) or (1,) and bias (O,) float32. Without `x` the scale of the input is taken from each
    input, which is float32 then.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, *, x: Affine | None, epilogue: Epilogue
    ) -> None:
        super().__init__()
        if weight.dtype != torch.int8:
            raise ValueError(f"weights are int8, not {weight.dtype}")
        if weight_scale.shape not in {(1,), weight.shape[:1]}:
            raise ValueError(f"{tuple(weight_scale.shape)} scales for {len(weight)} channels")
        if weight[0].numel() > LARGEST_DEPTH:
            raise ValueError(f"{weight[0].numel()} products overflow a sum of 32 bits; {LARGEST_DEPTH} are sure to fit")
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", weight_scale.float())
        self.register_buffer("bias", None if bias is None else bias.detach().float())
        self.x, self.y, self.residual = x, epilogue.y, epilogue.residual
        self.activation, self.frees_residual = epilogue.activation, epilogue.frees_residual
        self.inner: Affine | None = (
            None  # of what is there before the residual and the activation, for runtimes that round it
        )

    def replace_bias(self, bias: Tensor) -> None:
        """Add another bias (O,) from now on; kernels may have packed the old one."""
        self.bias = bias
        if self.kernels is not None:
            self.bind(self.kernels)

    def weight_affine(self) -> ChannelAffine:
        """What the weight's codes stand for."""
        scale = self.channel_scale()
        return ChannelAffine(scale, torch.zeros_like(scale, dtype=torch.int32))

    def real_weight(self) -> Tensor:
        """The weight that the codes stand for, in float32."""
        return dequantize(self.weight, self.weight_affine())

    def channel_scale(self) -> Tensor:
        """One scale for each output channel, (O,)."""
        return self.weight_scale.expand(len(self.weight))


class Int8Linear(Int8Product):
    """(..., I) to (..., O). Codes in; codes or float32 out."""

    @classmethod
    def from_float(
        cls, layer: nn.Linear, *, x: Affine | None, epilogue: Epilogue, bits: int = 8, is_per_channel: bool = True
    ) -> Self:
        """The same layer in int8, its weight scaled by its largest magnitude."""
        codes, scale = quantize_weight(layer.weight, axis=0 if is_per_channel else None, bits=bits)
        return cls(codes, scale, layer.bias, x=x, epilogue=epilogue)


class Int8DynamicLinear(Int8Linear):
    """(..., I) to (..., O), float32 in and out; scale and zero point of the input are those of each call."""

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, weight_scale, bias, x=None, epilogue=Epilogue(None))

    @classmethod
    def from_weight(cls, weight: Tensor, bias: Tensor | None, *, bits: int = 8, is_per_channel: bool = True) -> Self:
        """For a float weight (O, I)."""
        codes, scale = quantize_weight(weight, axis=0 if is_per_channel else None, bits=bits)
        return cls(codes, scale, bias)


@dataclass(frozen=True)
class ConvGeometry:
    """Where a convolution looks: one number for each dimension, the same padding at both sides of each."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


class Int8Conv(Int8Product):
    """(N, I, ...) to (N, O, ...); padding stands for 0, which is the zero point of the input."""

    num_dimensions: ClassVar[int]

    def __init__(
        self,
        weight: Tensor,
        weight_scale: Tensor,
        bias: Tensor | None,
        *,
        x: Affine,
        epilogue: Epilogue,
        geometry: ConvGeometry,
    ) -> None:
        super().__init__(weight, weight_scale, bias, x=x, epilogue=epilogue)
        self.stride, self.padding = geometry.stride, geometry.padding
        self.dilation, self.groups = geometry.dilation, geometry.groups

    @classmethod
    def from_float(
        cls,
        layer: nn.modules.conv._ConvNd,
        *,
        x: Affine,
        epilogue: Epilogue,
        bits: int = 8,
        is_per_channel: bool = True,
    ) -> Self:
        """The same layer in int8, its weight scaled by its largest magnitude. Raises ValueError for padding of another kind."""
        codes, scale = quantize_weight(layer.weight, axis=0 if is_per_channel else None, bits=bits)
        geometry = ConvGeometry(layer.stride, _padding(layer), layer.dilation, layer.groups)
        return cls(codes, scale, layer.bias, x=x, epilogue=epilogue, geometry=geometry)


def _padding(layer: nn.modules.conv._ConvNd) -> tuple[int, ...]:
    sides = layer._reversed_padding_repeated_twice[::-1]
    if layer.padding_mode != "zeros" or sides[::2] != sides[1::2]:
        raise ValueError(f"int8 convolutions pad both sides alike, with zeros: {layer}")
    return tuple(sides[::2])


class Int8Conv1d(Int8Conv):
    """A convolution over (N, C, L)."""

    num_dimensions = 1


class Int8Conv2d(Int8Conv):
    """A convolution over (N, C, H, W)."""

    num_dimensions = 2


class Int8Conv3d(Int8Conv):
    """A convolution over (N, C, D, H, W)."""

    num_dimensions = 3


CONVOLUTIONS: dict[int, type[Int8Conv]] = {1: Int8Conv1d, 2: Int8Conv2d, 3: Int8Conv3d}
