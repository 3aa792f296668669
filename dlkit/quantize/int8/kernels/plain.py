"""What needs no int8 kernel, in ordinary operations of torch on any device: float32 where that rounds alike but for rare ties.

Exact here, and used by the reference too: largest codes, tables, joins. At most one step from the reference, where a number lies
within float32's error of the middle between two codes: quantizing, sums, products, means and changes of scale.
"""

import sys
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.arithmetic import CODES, Affine, round_steps
from dlkit.quantize.int8.kernels.pixels import convolve_pixels, float_codes, is_for_pixels, pack_pixels
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.pointwise import Dequantize, Int8Add, Int8Cat, Int8Clamp, Int8Lookup, Int8Mul, Quantize
from dlkit.quantize.int8.pooling import Int8AdaptiveAvgPool, Int8AvgPool, Int8MaxPool, Int8Pad, Int8Resize
from dlkit.quantize.int8.products import Int8Conv

AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ANCHOR = 1.5 * 2.0**23  # floats are whole numbers from here on, and the lowest byte of this one is 0
_ANCHOR = torch.tensor(ANCHOR)
LEAST_PAIRED = 2**14  # codes
ADAPT: dict[int, Callable[..., Tensor]] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class PlainKernels:
    """Layers without weights, or with few."""

    name = "plain"
    missing = ""

    def is_available(self) -> bool:
        """Always."""
        return True

    def supports(self, layer: Int8Layer) -> bool:
        """Whether it has no weights, or so few that no int8 kernel pays."""
        return type(layer) in _RUN or is_for_pixels(layer)

    def pack(self, layer: Int8Layer) -> dict[str, Any]:
        """A table of pairs for a function, or one in float32; a weight in float32."""
        if isinstance(layer, Int8Conv):
            return pack_pixels(layer)
        if not isinstance(layer, Int8Lookup) or layer.table.device.type != "cpu":
            return {}
        return {"floats": layer.table.float()} if layer.codes_in_float else {"pairs": _pair_table(layer)}

    def run(self, layer: Int8Layer, *inputs: Tensor) -> Tensor:
        """The output."""
        if isinstance(layer, Int8Conv):
            assert layer.y is not None
            codes = convolve_pixels(layer, *inputs).movedim(-1, 1)
            return codes if layer.codes_in_float else codes.to(layer.y.dtype)
        return _RUN[type(layer)](layer, *inputs)


def encode(real: Tensor, affine: Affine) -> Tensor:
    """Codes of float32 numbers."""
    return encode_by(real, affine.scale, affine.zero_point, affine.dtype)


def encode_by(real: Tensor, scale: float, zero_point: int, dtype: torch.dtype) -> Tensor:
    """Codes of numbers for a mapping that is known only now.

    Adding ANCHOR rounds half to even, and leaves whole numbers in the lowest byte of the float: torch takes six times as long to
    convert floats to bytes as it takes for whole numbers.
    """
    if torch.compiler.is_compiling() or real.dtype != torch.float32:  # a compiler makes one loop of all this by itself
        return round_steps(real / scale, zero_point, dtype)
    return _anchored_codes(torch.add(_ANCHOR, real, alpha=1 / scale), zero_point, dtype)


def _anchored_codes(steps: Tensor, zero_point: int, dtype: torch.dtype) -> Tensor:
    """Codes of steps from 0 to which ANCHOR was added."""
    lowest, highest = (code - zero_point + ANCHOR for code in CODES[dtype])
    steps = steps.clamp_(lowest, highest)
    whole = steps.to(torch.int32) if torch._C._is_tracing() else steps.view(torch.int32)  # the same lowest byte
    codes = whole.to(dtype)
    return codes.add_(zero_point) if zero_point else codes


def decode(codes: Tensor, affine: Affine) -> Tensor:
    """float32 numbers of codes; exact but for the last rounding, as the reference's."""
    return centered(codes, affine.zero_point).mul_(affine.scale)


def centered(codes: Tensor, zero_point: int) -> Tensor:
    """Codes as float32 numbers of steps from 0, in a memory of their own."""
    if codes.dtype == torch.float32:
        return codes - zero_point
    steps = codes.float()
    return steps.sub_(zero_point) if zero_point else steps


def _add(layer: Int8Add, x: Tensor, other: Tensor) -> Tensor:
    ratio = layer.other.scale / layer.x.scale
    first, second = x.float(), other.float()
    is_whole = first.shape == second.shape  # in place where that is possible: less memory is more of it in the cache
    steps = first.add_(second, alpha=ratio) if is_whole else torch.add(first, second, alpha=ratio)
    shift = layer.x.zero_point + layer.other.zero_point * ratio
    steps = steps.sub_(shift) if shift else steps
    codes = encode_by(steps, layer.y.scale / layer.x.scale, layer.y.zero_point, layer.y.dtype)
    return codes.clamp_(min=layer.y.zero_point) if _needs_relu(layer) else codes


def _needs_relu(layer: Int8Add) -> bool:
    return layer.activation == "relu" and layer.y.zero_point > layer.y.lowest


def _mul(layer: Int8Mul, x: Tensor, other: Tensor) -> Tensor:
    steps = centered(x, layer.x.zero_point), centered(other, layer.other.zero_point)
    first, second = steps if x.numel() >= other.numel() else steps[::-1]
    ratio = layer.y.scale / (layer.x.scale * layer.other.scale)
    if first.shape == second.shape or torch.compiler.is_compiling():
        return encode_by(first.mul_(second), ratio, layer.y.zero_point, layer.y.dtype)
    return _anchored_codes(torch.addcmul(_ANCHOR, first, second.mul_(1 / ratio)), layer.y.zero_point, layer.y.dtype)


def _cat(layer: Int8Cat, *inputs: Tensor) -> Tensor:
    pairs = zip(inputs, layer.inputs, strict=True)
    return torch.cat([_rescale(x, affine, layer.y) for x, affine in pairs], layer.dim)


def _rescale(x: Tensor, source: Affine, target: Affine) -> Tensor:
    if source == target:
        return x
    steps = centered(x, source.zero_point)
    return encode_by(steps, target.scale / source.scale, target.zero_point, target.dtype)


def clamp(layer: Int8Clamp, x: Tensor) -> Tensor:
    """Codes between those of the bounds; rounding keeps order, so that this is exact."""
    return x.clamp(layer.x.code_of(layer.low), layer.x.code_of(layer.high))


def lookup(layer: Int8Lookup, x: Tensor) -> Tensor:
    """The entries of the table, in the layout of the codes: gathering from another layout takes five times as long."""
    if layer.codes_in_float:
        return layer.packed()["floats"].index_select(0, x.flatten().int().sub_(layer.x.lowest)).view(x.shape)  # type: ignore[no-any-return]
    order = list(range(x.dim()))
    if x.dim() in (4, 5) and not x.is_contiguous():
        order = [0, *order[2:], 1]
    codes = x.permute(order)
    flat = codes.reshape(-1)
    pairs: Tensor | None = getattr(layer, "packed_pairs", None)
    if pairs is not None and _has_pairs(codes, flat):
        found = pairs.index_select(0, flat.view(torch.uint16).int()).view(layer.y.dtype)
    else:
        shift = -layer.x.lowest
        places = flat.int()
        found = layer.table.index_select(0, places.add_(shift) if shift else places)
    return found.view(codes.shape).permute([order.index(dim) for dim in range(x.dim())])


def _pair_table(layer: Int8Lookup) -> Tensor:
    """The entries of two neighbours at once, (65536,) int16: half as many to gather."""
    table = layer.table.view(torch.uint8).int()
    table = table if layer.x.lowest == 0 else table.roll(128)  # by the bytes of the codes
    low, high = (table, table << 8) if sys.byteorder == "little" else (table << 8, table)
    firsts, seconds = (low[None, :], high[:, None]) if sys.byteorder == "little" else (low[:, None], high[None, :])
    return (firsts + seconds).flatten().to(torch.int16)


def _has_pairs(codes: Tensor, flat: Tensor) -> bool:
    """Whether the codes can be taken two at a time, and are enough for a table of 128 KiB; a trace has no view of another dtype."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return False
    is_even = codes.dim() > 0 and codes.shape[-1] % 2 == 0 and flat.storage_offset() % 2 == 0
    return bool(is_even and flat.numel() >= LEAST_PAIRED)


def max_pool(layer: Int8MaxPool, x: Tensor) -> Tensor:
    """The largest codes, dimension by dimension, from shifted views of the input.

    torch's own pool of bytes fails for images of more than 255 places that lie channels last, and takes fifty times as long
    for others.
    """
    where = layer.geometry
    options = list(zip(where.kernel, where.stride, where.padding, layer.dilation, strict=True))
    inner = [_inner_tap(*option) for option in options]
    if where.ceil_mode or None in inner or torch.compiler.is_compiling():
        return _max_pool_padded(x, options, layer.x.lowest, ceil_mode=where.ceil_mode)
    for dim, option, tap in zip(range(-len(options), 0), options, inner, strict=True):
        x = _pool_dimension(x, dim, option, tap or 0)
    return x


Window = tuple[int, int, int, int]  # kernel, stride, padding and dilation in one dimension


def _inner_tap(kernel: int, stride: int, padding: int, dilation: int) -> int | None:
    """The place of the windows that never lies in the padding, whatever the size of the image, and comes as often as there are windows."""
    reach = dilation * (kernel - 1)
    taps = (tap for tap in range(kernel) if padding <= tap * dilation == reach - padding)
    return next(taps, None)


def pad(layer: Int8Pad, x: Tensor) -> Tensor:
    """A larger image: exact."""
    return F.pad(x, layer.sides, value=layer.x.zero_point)


def _max_pool_padded(x: Tensor, options: list[Window], fill: int, *, ceil_mode: bool) -> Tensor:
    num = len(options)
    sides: list[int] = []
    counts = [
        _num_windows(*option, size, ceil_mode=ceil_mode) for option, size in zip(options, x.shape[-num:], strict=True)
    ]
    for (kernel, stride, padding, dilation), count, size in zip(options, counts, x.shape[-num:], strict=True):
        sides = [padding, max((count - 1) * stride + dilation * (kernel - 1) + 1 - padding - size, 0), *sides]
    x = F.pad(x, sides, value=fill) if any(sides) else x
    for dim, (kernel, stride, _, dilation), count in zip(range(-num, 0), options, counts, strict=True):
        ends = [(tap * dilation, tap * dilation + (count - 1) * stride + 1) for tap in range(kernel)]
        x = reduce(torch.maximum, [_every(x, dim, start, end, stride) for start, end in ends])
    return x


def _pool_dimension(x: Tensor, dim: int, option: Window, inner: int) -> Tensor:
    """The largest of each window along one dimension; places in the padding are left out."""
    kernel, stride, padding, dilation = option
    starts = [tap * dilation - padding for tap in range(kernel)]
    y = _every(x, dim, whole := starts.pop(inner), None, stride).clone()
    for start in starts:
        skipped = max(-(start // stride), 0)
        part, taken = _every(y, dim, skipped, None, 1), _every(x, dim, start + skipped * stride, None, stride)
        if start < whole:  # there may be more places than windows, behind it fewer
            taken = taken.narrow(dim, 0, part.shape[dim])
        else:
            part = part.narrow(dim, 0, taken.shape[dim])
        torch.maximum(part, taken, out=part)
    return y


def _every(x: Tensor, dim: int, start: int, end: int | None, step: int) -> Tensor:
    view: Tensor = torch.ops.aten.slice(x, dim, start, end, step)
    return view


def _num_windows(kernel: int, stride: int, padding: int, dilation: int, size: int, *, ceil_mode: bool) -> int:
    """How many windows fit; one that would start in the right padding is left out, as torch does."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def average(layer: Int8AvgPool | Int8AdaptiveAvgPool, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The means of all windows."""
    if isinstance(layer, Int8AdaptiveAvgPool):
        if set(layer.size) == {1}:
            return x.mean(tuple(range(-len(layer.size), 0)), keepdim=True, dtype=dtype)
        return ADAPT[len(layer.size)](x.to(dtype), layer.size)
    where = layer.geometry
    pool = AVERAGE[len(where.kernel)]
    return pool(x.to(dtype), where.kernel, where.stride, where.padding, where.ceil_mode, layer.count_include_pad)


def _mean(layer: Int8AvgPool | Int8AdaptiveAvgPool, x: Tensor) -> Tensor:
    zero = layer.x.zero_point
    if layer.codes_in_float:
        means = average(layer, x, torch.float32)
        return float_codes(means.sub_(zero) if zero else means, layer.x.scale / layer.y.scale, layer.y)
    if isinstance(layer, Int8AvgPool) and any(layer.geometry.padding):  # which stands for 0
        means = average(layer, centered(x, zero), torch.float32)
    else:
        means = average(layer, x, torch.float32)
        means = means.sub_(zero) if zero else means
    return encode_by(means, layer.y.scale / layer.x.scale, layer.y.zero_point, layer.y.dtype)


def interpolate(layer: Int8Resize, x: Tensor, size: Any = None) -> Tensor:
    """Numbers between those of an image."""
    return F.interpolate(x, layer.size if size is None else size, **layer.options)


def _resize(layer: Int8Resize, x: Tensor, size: Any = None) -> Tensor:
    steps = interpolate(layer, centered(x, layer.x.zero_point), size)
    return encode_by(steps, layer.y.scale / layer.x.scale, layer.y.zero_point, layer.y.dtype)


_RUN: dict[type[Int8Layer], Callable[..., Tensor]] = {
    Quantize: lambda layer, x: encode(x, layer.y),
    Dequantize: lambda layer, x: decode(x, layer.x),
    Int8Add: _add,
    Int8Mul: _mul,
    Int8Cat: _cat,
    Int8Clamp: clamp,
    Int8Lookup: lookup,
    Int8MaxPool: max_pool,
    Int8Pad: pad,
    Int8Resize: _resize,
    Int8AvgPool: _mean,
    Int8AdaptiveAvgPool: _mean,
}
