"""Transposed convolutions as one ordinary convolution that makes all phases of the stride, and an interleaving of them.

Output o of a transposed convolution with stride s, padding p and dilation d reads input i through tap k where o + p = s * i + d * k.
For the outputs o = s * m + r of one phase r, that is an ordinary convolution over m with the taps whose d * k leaves the same
rest as r + p. A convolution with s times as many channels computes all phases; taps that a phase lacks are zero.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import torch
from torch import Tensor, nn

from dlkit.quantize.int8.arithmetic import Affine, dequantize, quantize_weight
from dlkit.quantize.int8.layer import Epilogue
from dlkit.quantize.int8.products import CONVOLUTIONS, ConvGeometry, Int8Conv


@dataclass(frozen=True)
class StridePhases:
    """The phases along one dimension: `places` (phase, tap of the phase, tap of the kernel) and the sizes that follow."""

    stride: int
    places: tuple[tuple[int, int, int], ...]
    num_taps: int
    padding: int
    start: int
    added: int

    @classmethod
    def of(cls, *, kernel: int, stride: int, padding: int, dilation: int, output_padding: int) -> Self:
        """From the options of a transposed convolution; its output has (size - 1) * stride + added places."""
        reach = range(stride), range(kernel)
        offsets = {(r, k): r + padding - dilation * k for r, k in product(*reach)}
        steps = {pair: offset // stride for pair, offset in offsets.items() if offset % stride == 0}
        first, last = min(steps.values()), max(steps.values())
        added = dilation * (kernel - 1) - 2 * padding + output_padding + 1
        both = max(-first, last - 1 - (-added // stride), 0)
        places = tuple((r, step - first, k) for (r, k), step in steps.items())
        return cls(stride, places, last - first + 1, both, both + first, added)

    def spread(self, weight: Tensor) -> Tensor:
        """(..., kernel) to (..., stride, taps)."""
        spread = weight.new_zeros(*weight.shape[:-1], self.stride, self.num_taps)
        for phase, tap, place in self.places:
            spread[..., phase, tap] = weight[..., place]
        return spread

    def gather(self, spread: Tensor) -> Tensor:
        """The inverse, with the kernel's dimension behind the first three: (g, o, i, ..., stride, taps) to (g, o, i, kernel, ...)."""
        places = sorted(self.places, key=lambda place: place[2])
        return torch.stack([spread[..., phase, tap] for phase, tap, _ in places], 3)


class Int8ConvTranspose(nn.Module):
    """(N, I, ...) to (N, O, ...) in one, two or three dimensions."""

    def __init__(self, phases: Int8Conv, plan: tuple[StridePhases, ...]) -> None:
        super().__init__()
        self.phases, self.plan = phases, plan

    @classmethod
    def from_float(
        cls,
        layer: nn.modules.conv._ConvTransposeNd,
        *,
        x: Affine,
        epilogue: Epilogue,
        bits: int = 8,
        is_per_channel: bool = True,
    ) -> Self:
        """The same layer in int8. Raises ValueError for a tensor to be added: only ordinary convolutions add one."""
        if epilogue.residual is not None:
            raise ValueError("transposed convolutions add no other tensor")
        assert isinstance(layer.padding, tuple)
        options = zip(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.output_padding, strict=True)
        names = ("kernel", "stride", "padding", "dilation", "output_padding")
        plan = tuple(StridePhases.of(**dict(zip(names, row, strict=True))) for row in options)
        groups, ones = layer.groups, (1,) * len(plan)
        weight = _by_group(layer.weight.detach(), groups).transpose(1, 2).flatten(0, 1)
        codes, scale = quantize_weight(weight, axis=0 if is_per_channel else None, bits=bits)
        num_phases = math.prod(layer.stride)
        bias = None if layer.bias is None else _repeat(layer.bias, groups, num_phases)
        phases = CONVOLUTIONS[len(plan)](
            _all_phases(codes, plan, groups),
            _repeat(scale, groups, num_phases) if is_per_channel else scale,
            bias,
            x=x,
            epilogue=epilogue,
            geometry=ConvGeometry(ones, tuple(one.padding for one in plan), ones, groups),
        )
        return cls(phases, plan)

    computes_int8 = True

    @property
    def output(self) -> Affine | None:
        """What maps the result to codes; None where it is float32."""
        return self.phases.output

    def real_weight(self) -> Tensor:
        """The weight (I, O / groups, *kernel) that the codes stand for, in float32."""
        groups, num = self.phases.groups, len(self.plan)
        weight = dequantize(self.phases.weight, self.phases.weight_affine())
        strides, taps = [one.stride for one in self.plan], [one.num_taps for one in self.plan]
        weight = weight.reshape(groups, *strides, -1, weight.shape[1], *taps)
        pairs = [place for dim in range(num) for place in (1 + dim, 3 + num + dim)]
        weight = weight.permute(0, 1 + num, 2 + num, *pairs)  # g, O/g, I/g, s1, t1, s2, t2, ...
        for one in reversed(self.plan):
            weight = one.gather(weight)
        return weight.transpose(1, 2).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """All phases, interleaved."""
        y: Tensor = self.phases(x)
        dims = range(len(self.plan))
        inner = [size - 1 - (-one.added // one.stride) for size, one in zip(x.shape[2:], self.plan, strict=True)]
        for dim, one, size in zip(dims, self.plan, inner, strict=True):
            y = y.narrow(dim + 2, one.start, size)
        num = len(self.plan)
        y = y.reshape(y.shape[0], self.phases.groups, *(one.stride for one in self.plan), -1, *inner)
        pairs = [place for dim in dims for place in (3 + num + dim, 2 + dim)]
        y = y.permute(0, *pairs, 1, 2 + num)  # channels last, as the kernels want them
        y = y.flatten(-2)
        for dim in dims:
            y = y.flatten(dim + 1, dim + 2)
        for dim, size, one in zip(dims, x.shape[2:], self.plan, strict=True):
            y = y.narrow(dim + 1, 0, (size - 1) * one.stride + one.added)
        return y.movedim(-1, 1)


def product_of(layer: nn.Module) -> Any:
    """The layer that holds the weight and the bias: of a transposed convolution the one inside."""
    return layer.phases if isinstance(layer, Int8ConvTranspose) else layer


def _all_phases(weight: Tensor, plan: tuple[StridePhases, ...], groups: int) -> Tensor:
    """(O, I/g, *kernel) to (O * phases, I/g, *taps): in each group all channels of the first phase, then of the next."""
    num = len(plan)
    for one in plan:  # the dimension in front goes to the end and becomes two
        weight = one.spread(weight.movedim(2, -1))
    weight = _by_group(weight, groups)  # g, O/g, I/g, s1, t1, s2, t2, ...
    strides, taps = range(3, 3 + 2 * num, 2), range(4, 3 + 2 * num, 2)
    return weight.permute(0, *strides, 1, 2, *taps).flatten(0, num + 1).contiguous()


def _repeat(values: Tensor, groups: int, num_phases: int) -> Tensor:
    """(O,) to (O * phases,), in the same order."""
    return _by_group(values.detach(), groups)[:, None].expand(-1, num_phases, -1).flatten()


def _by_group(values: Tensor, groups: int) -> Tensor:
    return values.reshape(groups, -1, *values.shape[1:])
