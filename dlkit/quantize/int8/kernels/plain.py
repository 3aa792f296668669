"""What needs no int8 kernel, in ordinary operations of torch on any device: float32 where that rounds alike but for rare ties.

Exact here, and used by the reference too: largest codes, tables, joins. At most one step from the reference, where a number lies
within float32's error of the middle between two codes: quantizing, sums, products, means and changes of scale.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.arithmetic import Affine, round_steps
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.pointwise import Dequantize, Int8Add, Int8Cat, Int8Clamp, Int8Lookup, Int8Mul, Quantize
from dlkit.quantize.int8.pooling import Int8AdaptiveAvgPool, Int8AvgPool, Int8MaxPool

AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPT: dict[int, Callable[..., Tensor]] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class PlainKernels:
    """Layers without weights."""

    name = "plain"
    missing = ""

    def is_available(self) -> bool:
        """Always."""
        return True

    def supports(self, layer: Int8Layer) -> bool:
        """Whether it has no weights."""
        return type(layer) in _RUN

    def pack(self, layer: Int8Layer) -> dict[str, Any]:
        """Nothing."""
        return {}

    def run(self, layer: Int8Layer, *inputs: Tensor) -> Tensor:
        """The output."""
        return _RUN[type(layer)](layer, *inputs)


def encode(real: Tensor, affine: Affine) -> Tensor:
    """Codes of float32 numbers."""
    return round_steps(real / affine.scale, affine.zero_point, affine.dtype)


def decode(codes: Tensor, affine: Affine) -> Tensor:
    """float32 numbers of codes; exact but for the last rounding, as the reference's."""
    return codes.float().sub_(affine.zero_point).mul_(affine.scale)


def _add(layer: Int8Add, x: Tensor, other: Tensor) -> Tensor:
    first, second = layer.x.scale / layer.y.scale, layer.other.scale / layer.y.scale
    steps = torch.add(x.float() * first, other.float(), alpha=second)
    steps = steps.sub_(layer.x.zero_point * first + layer.other.zero_point * second)
    codes = round_steps(steps, layer.y.zero_point, layer.y.dtype)
    return codes.clamp_(min=layer.y.zero_point) if layer.activation == "relu" else codes


def _mul(layer: Int8Mul, x: Tensor, other: Tensor) -> Tensor:
    second = decode(other, Affine(1, layer.other.zero_point, layer.other.dtype))
    ratio = layer.x.scale * layer.other.scale / layer.y.scale
    steps = x.float().sub_(layer.x.zero_point) * second.mul_(ratio)
    return round_steps(steps, layer.y.zero_point, layer.y.dtype)


def _cat(layer: Int8Cat, *inputs: Tensor) -> Tensor:
    pairs = zip(inputs, layer.inputs, strict=True)
    return torch.cat([_rescale(x, affine, layer.y) for x, affine in pairs], layer.dim)


def _rescale(x: Tensor, source: Affine, target: Affine) -> Tensor:
    if source == target:
        return x
    steps = x.float().sub_(source.zero_point).mul_(source.scale / target.scale)
    return round_steps(steps, target.zero_point, target.dtype)


def clamp(layer: Int8Clamp, x: Tensor) -> Tensor:
    """Codes between those of the bounds; rounding keeps order, so that this is exact."""
    return x.clamp(layer.x.code_of(layer.low), layer.x.code_of(layer.high))


def lookup(layer: Int8Lookup, x: Tensor) -> Tensor:
    """The entries of the table, in the layout of the codes: gathering from another layout takes five times as long."""
    shift = -layer.x.lowest
    order = list(range(x.dim()))
    if x.dim() in (4, 5) and not x.is_contiguous():
        order = [0, *order[2:], 1]
    codes = x.permute(order)
    places = codes.reshape(-1).int()
    found = layer.table.index_select(0, places.add_(shift) if shift else places).view(codes.shape)
    return found.permute([order.index(dim) for dim in range(x.dim())])


def max_pool(layer: Int8MaxPool, x: Tensor) -> Tensor:
    """The largest codes, dimension by dimension, from shifted views of the input.

    torch's own pool of bytes fails for images of more than 255 places that lie channels last, and takes fifty times as long
    for others.
    """
    where = layer.geometry
    num = len(where.kernel)
    options = list(zip(where.kernel, where.stride, where.padding, layer.dilation, x.shape[-num:], strict=True))
    counts = [_num_windows(*option, ceil_mode=where.ceil_mode) for option in options]
    sides: list[int] = []
    for (kernel, stride, padding, dilation, size), count in zip(options, counts, strict=True):
        sides = [padding, max((count - 1) * stride + dilation * (kernel - 1) + 1 - padding - size, 0), *sides]
    x = F.pad(x, sides, value=layer.x.lowest) if any(sides) else x
    for dim, ((kernel, stride, _, dilation, _), count) in enumerate(zip(options, counts, strict=True), start=-num):
        ends = [(tap * dilation, tap * dilation + (count - 1) * stride + 1, stride) for tap in range(kernel)]
        x = reduce(torch.maximum, [_every(x, dim, slice(*end)) for end in ends])
    return x


def _every(x: Tensor, dim: int, places: slice) -> Tensor:
    index = [slice(None)] * x.dim()
    index[dim] = places
    return x[tuple(index)]


def _num_windows(kernel: int, stride: int, padding: int, dilation: int, size: int, *, ceil_mode: bool) -> int:
    """How many windows fit; one that would start in the right padding is left out, as torch does."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def average(layer: Int8AvgPool | Int8AdaptiveAvgPool, x: Tensor) -> Tensor:
    """The means of all windows of numbers, in their own precision."""
    if isinstance(layer, Int8AdaptiveAvgPool):
        if set(layer.size) == {1}:
            return x.mean(tuple(range(-len(layer.size), 0)), keepdim=True)
        return ADAPT[len(layer.size)](x, layer.size)
    where = layer.geometry
    pool = AVERAGE[len(where.kernel)]
    return pool(x, where.kernel, where.stride, where.padding, where.ceil_mode, layer.count_include_pad)


def _mean(layer: Int8AvgPool | Int8AdaptiveAvgPool, x: Tensor) -> Tensor:
    means = average(layer, x.float().sub_(layer.x.zero_point))
    return round_steps(means * (layer.x.scale / layer.y.scale), layer.y.zero_point, layer.y.dtype)


_RUN: dict[type[Int8Layer], Callable[..., Tensor]] = {
    Quantize: lambda layer, x: encode(x, layer.y),
    Dequantize: lambda layer, x: decode(x, layer.x),
    Int8Add: _add,
    Int8Mul: _mul,
    Int8Cat: _cat,
    Int8Clamp: clamp,
    Int8Lookup: lookup,
    Int8MaxPool: max_pool,
    Int8AvgPool: _mean,
    Int8AdaptiveAvgPool: _mean,
}
