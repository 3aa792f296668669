"""oneDNN's convolutions and products on plain tensors, `torch.ops.onednn`: what Inductor lowers to.

At most one step from the reference: oneDNN scales its int32 sums in float32. Its limits, and what is done about them:

- Codes are uint8: int8 codes are shifted by 128, and so is their zero point.
- Weights are symmetric; their zero points are ignored. Padding is the same at both sides.
- Fused into two dimensions: relu, hardswish, swish, and a tensor of uint8 to be added, with or without relu. One dimension is
  computed as two. Three dimensions fuse nothing. Linear layers fuse gelu besides.
- The result has the dtype of the tensor that is added, which is overwritten.
- Windows that lie in the padding as a whole come out wrong for one input channel and several output channels in a group, unless
  the zero point is 0: such an input is padded beforehand.
- Everything else is finished in float32, or by clamping codes, which is exact.
- The packed weight is opaque: it cannot be copied or saved, and `unpack` puts the packing into an exported graph.
- `qadd`, `qadd_relu` and `qmul` are not used: with AVX512 they read codes above 127 as negative (torch 2.10 to 2.15).
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.activations import Activation, activate
from dlkit.quantize.int8.arithmetic import (
    Affine,
    from_unsigned,
    range_affine,
    round_steps,
    to_unsigned,
    unsigned_zero_point,
)
from dlkit.quantize.int8.kernels.onednn_calls import (
    Codes,
    Places,
    Target,
    Weight,
    qconv,
    qconv_sum,
    qlinear,
    qlinear_any,
    qlinear_sum,
)
from dlkit.quantize.int8.kernels.plain import decode, encode
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.products import (
    Int8Conv,
    Int8Conv1d,
    Int8Conv2d,
    Int8Conv3d,
    Int8DynamicLinear,
    Int8Linear,
    Int8Product,
)

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
_FLOAT: Target = (1.0, 0, torch.float32)


class OnednnKernels:
    """Convolutions and linear layers on the CPU."""

    name = "onednn"
    missing = (
        "this torch has no oneDNN kernels for int8 (torch.ops.onednn.qconv_pointwise), or they do not run on this CPU"
    )

    def is_available(self) -> bool:
        """Whether a small product comes out right."""
        return _is_working()

    def supports(self, layer: Int8Layer) -> bool:
        """Whether it is a convolution or a linear layer on the CPU."""
        return type(layer) in _RUN and isinstance(layer, Int8Product) and layer.weight.device.type == "cpu"

    def pack(self, layer: Int8Layer) -> dict[str, Any]:
        """The weight as oneDNN wants it for inputs of the expected shape, zero points for it, and what is to be called."""
        assert isinstance(layer, Int8Product)
        zeros = torch.zeros_like(layer.weight_scale, dtype=torch.int32)
        return {
            "weight": _pack_weight(layer),
            "zeros": zeros,
            "plan": None if layer.x is None else _plan(layer, layer.x),
        }

    def run(self, layer: Int8Layer, *inputs: Tensor) -> Tensor:
        """The output; that of a convolution lies channels last."""
        return _RUN[type(layer)](layer, *inputs)


def _pack_weight(layer: Int8Product) -> Tensor:
    packed: Tensor
    shape = layer.expected_shape
    if isinstance(layer, Int8Conv):
        assert layer.x is not None
        is_row = layer.num_dimensions == 1
        weight = layer.weight.unsqueeze(2) if is_row else layer.weight
        sizes = None if shape is None else [*shape[:2], 1, *shape[2:]] if is_row else list(shape)
        packed = torch.ops.onednn.qconv_prepack(weight, layer.weight_scale, *_scale(layer.x), *_places(layer), sizes)
    else:
        rows = None if shape is None else [math.prod(shape[:-1]), shape[-1]]
        packed = torch.ops.onednn.qlinear_prepack(layer.weight, rows)
    return packed


@dataclass(frozen=True)
class _Plan:
    """How a layer is called: all in the kernel, with a tensor to be added, or only up to its float32 sums."""

    route: Literal["kernel", "sum", "float"]
    x: tuple[float, int]
    residual: tuple[float, int]
    y: Target
    name: str
    bounds: Bounds | None
    places: Places
    sides: list[int] | None  # to be padded beforehand, from the last dimension to the first


def _plan(layer: Int8Product, x: Affine) -> _Plan:
    fused, activation, y = _FUSED[type(layer)], layer.activation, layer.y
    is_clamp = y is not None and activation in ("none", "relu", "relu6")
    scales = _scale(x), _scale(layer.residual or x)
    where = (_places(layer), _sides(layer)) if isinstance(layer, Int8Conv) else (([], [], [], 1), None)
    if y is not None and layer.residual is not None and is_clamp and "relu" in fused:
        return _Plan("sum", *scales, _target(y), fused[activation], _bounds(y, activation, has_relu=True), *where)
    if layer.residual is None and (is_clamp or (activation in fused and activation != "relu6")):
        bounds = None if y is None else _bounds(y, activation, has_relu="relu" in fused)
        return _Plan("kernel", *scales, _target(y), fused.get(activation, "none"), bounds, *where)
    return _Plan("float", *scales, _FLOAT, "none", None, *where)


def _scale(affine: Affine) -> tuple[float, int]:
    return affine.scale, unsigned_zero_point(affine)


def _target(y: Affine | None) -> Target:
    """uint8 always: Inductor takes int8 results for uint8."""
    return _FLOAT if y is None else (*_scale(y), torch.uint8)


def _bounds(y: Affine, activation: Activation, *, has_relu: bool) -> Bounds | None:
    """The codes between which relu and relu6 still have to clamp; rounding keeps order, so that this is exact.

    A bound that the codes have anyway is None. Inductor before torch 2.15 fails on a convolution that is clamped at both ends.
    """
    low = y.zero_point if activation in ("relu", "relu6") and not has_relu else y.lowest
    high = y.code_of(6) if activation == "relu6" else y.highest
    bounds = None if low == y.lowest else low, None if high == y.highest else high
    return None if bounds == (None, None) else bounds


def _places(layer: Int8Conv) -> Places:
    """Stride, padding, dilation and groups; one dimension is computed as two."""
    stride, dilation = list(layer.stride), list(layer.dilation)
    padding = [0] * layer.num_dimensions if _sides(layer) else list(layer.padding)
    if layer.num_dimensions == 1:
        stride, padding, dilation = [1, *stride], [0, *padding], [1, *dilation]
    return stride, padding, dilation, layer.groups


def _sides(layer: Int8Conv) -> list[int] | None:
    """The padding of both sides where it is wider than the reach of the kernel."""
    options = zip(layer.padding, layer.dilation, layer.weight.shape[2:], strict=True)
    if all(padding <= dilation * (kernel - 1) for padding, dilation, kernel in options):
        return None
    return [side for padding in reversed(layer.padding) for side in (padding, padding)]


def _convolve(layer: Int8Conv, x: Tensor, residual: Tensor | None = None) -> Tensor:
    if layer.num_dimensions != 1:
        return _compute(layer, x, residual)
    return _compute(layer, x.unsqueeze(2), None if residual is None else residual.unsqueeze(2)).squeeze(2)


def _compute(layer: Any, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """As much as the kernel does; then codes are clamped, or what is left is done in float32."""
    packed = layer.packed()
    plan: _Plan = packed["plan"]
    x = to_unsigned(x, layer.x)
    codes = x if plan.sides is None else F.pad(x, plan.sides, value=plan.x[1]), *plan.x
    weight = packed["weight"], layer.weight_scale, packed["zeros"]
    if plan.route == "kernel":
        y = _call(codes, weight, layer.bias, plan, plan.y)
    elif plan.route == "sum" and not torch.compiler.is_compiling():
        assert residual is not None
        y = _sum(layer, codes, weight, residual, plan)
    else:  # Inductor cannot freeze a graph with an operation that overwrites its input
        real = _call(codes, weight, layer.bias, plan, _FLOAT)
        return _finish(layer, real, residual)
    y = y if layer.y is None else from_unsigned(y, layer.y)
    return y if plan.bounds is None else y.clamp_(*plan.bounds)


def _call(codes: Codes, weight: Weight, bias: Tensor | None, plan: _Plan, y: Target) -> Tensor:
    name = plan.name if plan.route == "kernel" else "none"
    if plan.places[0]:
        return qconv(codes, weight, bias, plan.places, y, name)
    return qlinear(codes, weight, bias, y, name)


def _sum(layer: Any, codes: Codes, weight: Weight, residual: Tensor, plan: _Plan) -> Tensor:
    """The kernel writes into the tensor that it adds, so that others who need it must not see that."""
    is_image = bool(plan.places[0])
    spare = to_unsigned(residual, layer.residual)
    spare = spare.contiguous(memory_format=torch.channels_last) if is_image else spare.contiguous()
    spare = residual.clone() if spare is residual and not layer.frees_residual else spare
    added = spare, *plan.residual
    if is_image:
        return qconv_sum(codes, weight, added, layer.bias, plan.places, plan.y, plan.name)
    return qlinear_sum(codes, weight, added, layer.bias, plan.y, plan.name)


def _finish(layer: Any, real: Tensor, residual: Tensor | None) -> Tensor:
    real = activate(real if residual is None else real.add_(decode(residual, layer.residual)), layer.activation)
    return real if layer.y is None else encode(real, layer.y)


def _multiply_dynamic(layer: Int8DynamicLinear, x: Tensor) -> Tensor:
    if not x.numel():
        return x.new_zeros(*x.shape[:-1], len(layer.weight))
    packed = layer.packed()
    weight = packed["weight"], layer.weight_scale, packed["zeros"]
    scale, zero_point = range_affine(x)
    codes = round_steps(x / scale, zero_point, torch.uint8)
    if isinstance(scale, Tensor):
        return qlinear_any(codes, scale, zero_point, weight, layer.bias)
    return qlinear((codes, scale, zero_point), weight, layer.bias, _FLOAT, "none")


_RUN: dict[type[Int8Layer], Callable[..., Tensor]] = {
    Int8Conv1d: _convolve,
    Int8Conv2d: _convolve,
    Int8Conv3d: _convolve,
    Int8Linear: _compute,
    Int8DynamicLinear: _multiply_dynamic,
}


@cache
def describe_packing() -> None:
    """Tell torch.export the shapes of packed weights, unless it knows: torch 2.15 does for linear layers, 2.10 for none."""
    with suppress(AttributeError, RuntimeError):
        torch.library.register_fake("onednn::qconv_prepack", lambda weight, *_: torch.empty_like(weight))
    with suppress(AttributeError, RuntimeError):
        torch.library.register_fake("onednn::qlinear_prepack", lambda weight, _: torch.empty_like(weight.t()))


@cache
def _is_working() -> bool:
    """Whether the operations are there and multiply: 1 * 1 by both kinds."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.uint8)
    weight, scale, zeros = one.to(torch.int8), torch.ones(1), torch.zeros(1, dtype=torch.int32)
    places, target = ([1, 1], [0, 0], [1, 1], 1), (1.0, 0, torch.uint8)
    try:
        packed = torch.ops.onednn.qconv_prepack(weight, scale, 1.0, 0, *places, None)
        y = torch.ops.onednn.qconv_pointwise(one, 1.0, 0, packed, scale, zeros, None, *places, *target, "none", [], "")
        packed = torch.ops.onednn.qlinear_prepack(weight[0, 0], None)
        y = torch.ops.onednn.qlinear_pointwise(y[0, 0], 1.0, 0, packed, scale, zeros, None, *target, "none", [], "none")
    except (AttributeError, RuntimeError):
        return False
    return bool(y == 1)
