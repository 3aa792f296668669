"""How oneDNN is called for a layer: what its kernel takes over, and the numbers that it gets.

Scales and the zero point of the input are folded into those of the weights and into the bias, so that the kernel sees 1 and 0. That is
faster: oneDNN lays weights out anew in every call for an input whose zero point is not 0, if the first weight packed by the process
was for one of 0 (torch 2.15), and 1 needs no argument. Padding would stand for 0, so that an image is padded beforehand with its zero
point; where that takes longer than laying the weights out, the kernel gets the zero point after all.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.activations import Activation
from dlkit.quantize.int8.arithmetic import Affine, unsigned_zero_point
from dlkit.quantize.int8.kernels.onednn_calls import Places, Target
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.products import Int8Conv, Int8Conv1d, Int8Conv2d, Int8Conv3d, Int8Linear, Int8Product

_NAMES: dict[Activation, str] = {
    "none": "none",
    "relu": "relu",
    "relu6": "relu",
    "hardswish": "hardswish",
    "silu": "swish",
}
_FUSED: dict[type[Int8Layer], dict[Activation, str]] = {
    Int8Conv1d: _NAMES,
    Int8Conv2d: _NAMES,
    Int8Conv3d: {"none": "none"},
    Int8Linear: _NAMES | {"gelu": "gelu"},
}
Bounds = tuple[int | None, int | None]
FLOAT: Target = (1.0, 0, torch.float32)


@dataclass(frozen=True)
class OnednnPlan:
    """How a layer is called: all in the kernel, with a tensor to be added, or only up to its float32 sums."""

    route: Literal["kernel", "sum", "float"]
    x_zero: int  # as the kernel gets it
    residual: tuple[float, int]
    y: Target
    y_scale: float  # by which scales and biases are divided
    name: str
    bounds: Bounds | None
    places: Places
    sides: list[int] | None  # to be padded beforehand, from the last dimension to the first
    fill: int


def make_plan(layer: Int8Product, x: Affine) -> OnednnPlan:
    """The plan for a layer whose input is mapped so."""
    fill = unsigned_zero_point(x)
    sides, x_zero = _padding(layer, fill) if isinstance(layer, Int8Conv) else (None, 0)
    places: Places = _places(layer, sides is not None) if isinstance(layer, Int8Conv) else ([], [], [], 1)
    if _needs_two_channels(layer):
        sides = [*(sides or [0, 0] * len(layer.stride)), *[0, 0] * (len(places[0]) - len(layer.stride)), 0, 1]
    return OnednnPlan(**_outcome(layer, layer.residual or x), places=places, sides=sides, fill=fill, x_zero=x_zero)


def _needs_two_channels(layer: Int8Product) -> TypeGuard[Int8Conv]:
    """Whether an exported convolution gets a second input channel, of weight 0: strides do not tell the layout of one channel, and with
    a free batch axis Inductor takes it for another one (torch 2.15).
    """
    is_lone = isinstance(layer, Int8Conv) and layer.groups == layer.weight.shape[1] == 1
    return is_lone and torch.compiler.is_compiling()


def _outcome(layer: Int8Product, added: Affine) -> dict[str, Any]:
    """The part of the plan that is about the result."""
    fused, activation, y, has_residual = _FUSED[type(layer)], layer.activation, layer.y, layer.residual is not None
    is_clamp = y is not None and activation in ("none", "relu", "relu6")
    fits = is_clamp or (activation in fused and activation != "relu6")
    if (has_residual and not (is_clamp and "relu" in fused)) or not fits:
        return {"route": "float", "residual": (1.0, 0), "y": FLOAT, "y_scale": 1.0, "name": "none", "bounds": None}
    name, y_scale, target, bounds = fused.get(activation, "none"), 1.0, FLOAT, None
    if y is not None:
        zero = unsigned_zero_point(y)
        is_stopped = activation in ("relu", "relu6") and zero == 0  # the lowest code stops numbers below 0
        name = "none" if is_stopped else name
        y_scale = y.scale if is_clamp else 1.0
        target = y.scale / y_scale, zero, torch.uint8  # uint8 always: Inductor takes int8 results for uint8
        bounds = _bounds(y, activation, has_relu=is_stopped or name == "relu")
    residual = added.scale / y_scale, unsigned_zero_point(added)
    route = "sum" if has_residual else "kernel"
    return {"route": route, "residual": residual, "y": target, "y_scale": y_scale, "name": name, "bounds": bounds}


def _bounds(y: Affine, activation: Activation, *, has_relu: bool) -> Bounds | None:
    """The codes between which relu and relu6 still have to clamp; rounding keeps order, so that this is exact.

    A bound that the codes have anyway is None. Inductor before torch 2.15 fails on a convolution that is clamped at both ends.
    """
    low = y.zero_point if activation in ("relu", "relu6") and not has_relu else y.lowest
    high = y.code_of(6) if activation == "relu6" else y.highest
    bounds = None if low == y.lowest else low, None if high == y.highest else high
    return None if bounds == (None, None) else bounds


def _padding(layer: Int8Conv, zero: int) -> tuple[list[int] | None, int]:
    """What is padded beforehand, and the zero point for the kernel."""
    options = zip(layer.padding, layer.dilation, layer.weight.shape[2:], strict=True)
    is_wide = any(padding > dilation * (kernel - 1) for padding, dilation, kernel in options)
    if is_wide or (zero and any(layer.padding) and _pads_fast(layer)):
        return [side for padding in reversed(layer.padding) for side in (padding, padding)], 0
    return None, zero if any(layer.padding) else 0


def _pads_fast(layer: Int8Conv) -> bool:
    """Whether copying the input takes less time than laying out the weight: about 0.05 ns for a byte to 0.5 ns, which takes 5 us more."""
    if layer.expected_shape is None:
        return layer.groups == 1
    return math.prod(layer.expected_shape) < 100_000 + 10 * layer.weight.numel()


def _places(layer: Int8Conv, is_padded: bool) -> Places:
    """Stride, padding, dilation and groups; one dimension is computed as two."""
    stride, dilation = list(layer.stride), list(layer.dilation)
    padding = [0] * layer.num_dimensions if is_padded else list(layer.padding)
    if layer.num_dimensions == 1:
        stride, padding, dilation = [1, *stride], [0, *padding], [1, *dilation]
    return stride, padding, dilation, layer.groups


def pack_weight(layer: Int8Product, plan: OnednnPlan | None) -> Tensor:
    """The weight as oneDNN wants it for inputs of the expected shape."""
    packed: Tensor
    shape = layer.expected_shape
    if plan is None or not isinstance(layer, Int8Conv):
        rows = None if shape is None else [math.prod(shape[:-1]), shape[-1]]
        packed = torch.ops.onednn.qlinear_prepack(layer.weight, rows)
        return packed
    if shape is not None and plan.sides:
        shape = (*shape[:2], *(size + 2 * padding for size, padding in zip(shape[2:], layer.padding, strict=True)))
    is_row = layer.num_dimensions == 1
    weight = layer.weight.unsqueeze(2) if is_row else layer.weight
    if _needs_two_channels(layer):
        weight = F.pad(weight, [0, 0] * (weight.ndim - 2) + [0, 1])
    sizes = None if shape is None else [*shape[:2], 1, *shape[2:]] if is_row else list(shape)
    packed = torch.ops.onednn.qconv_prepack(weight, layer.weight_scale, 1.0, plan.x_zero, *plan.places, sizes)
    return packed


def fold(layer: Int8Product, x: Affine, plan: OnednnPlan) -> tuple[Tensor, Tensor | None]:
    """Scales and biases for an input of scale 1 and zero point 0, divided by the scale of the output."""
    scale = layer.weight_scale.double() * (x.scale / plan.y_scale)
    bias = None if layer.bias is None else layer.bias.double() / plan.y_scale
    if plan.x_zero != plan.fill:
        sums = layer.weight.flatten(1).sum(1, dtype=torch.int64)
        shift = scale * sums * plan.fill
        bias = -shift if bias is None else bias - shift
    return scale.float(), None if bias is None else bias.float()


def prepare(layer: Int8Product) -> dict[str, Any]:
    """All that the kernel needs besides its input."""
    zeros = torch.zeros_like(layer.weight_scale, dtype=torch.int32)
    if layer.x is None:
        return {"weight": pack_weight(layer, None), "zeros": zeros, "plan": None}
    plan = make_plan(layer, layer.x)
    scale, bias = fold(layer, layer.x, plan)
    return {"weight": pack_weight(layer, plan), "scale": scale, "zeros": zeros, "bias": bias, "plan": plan}
