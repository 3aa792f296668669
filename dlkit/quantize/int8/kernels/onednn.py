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

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.activations import activate
from dlkit.quantize.int8.arithmetic import from_unsigned, range_affine, round_steps, to_unsigned
from dlkit.quantize.int8.kernels.onednn_calls import (
    Codes,
    Target,
    Weight,
    qconv,
    qconv_sum,
    qlinear,
    qlinear_any,
    qlinear_sum,
)
from dlkit.quantize.int8.kernels.onednn_plan import FLOAT, OnednnPlan, prepare
from dlkit.quantize.int8.kernels.plain import decode, encode, encode_by
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.products import (
    Int8Conv1d,
    Int8Conv2d,
    Int8Conv3d,
    Int8DynamicLinear,
    Int8Linear,
    Int8Product,
)

Call = Callable[..., Tensor]


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
        """The weight as oneDNN wants it for inputs of the expected shape, scales, zero points and bias for it, and what is to be
        called.
        """
        assert isinstance(layer, Int8Product)
        packed = prepare(layer)
        plan: OnednnPlan | None = packed["plan"]
        direct = None if plan is None or torch.compiler.is_compiling() else _direct(layer, packed)
        return packed | {"direct": direct}

    def run(self, layer: Int8Layer, *inputs: Tensor) -> Tensor:
        """The output; that of a convolution lies channels last."""
        if not (torch.compiler.is_compiling() or torch._C._is_tracing()):
            direct: Call | None = layer.__dict__.get("packed_direct")
            if direct is not None:
                y: Tensor = direct(*inputs)
                return y
        return _RUN[type(layer)](layer, *inputs)


def _direct(layer: Int8Product, packed: dict[str, Any]) -> Call | None:
    """A call of the operation and nothing else, for layers that need nothing else: half of the time of a small layer is overhead."""
    plan: OnednnPlan = packed["plan"]
    mapped = (layer.x, layer.y, layer.residual)
    is_unsigned = all(affine is None or affine.dtype == torch.uint8 for affine in mapped)
    if plan.route == "float" or plan.sides or plan.bounds or not is_unsigned or isinstance(layer, Int8Conv1d):
        return None
    head = 1.0, plan.x_zero, packed["weight"], packed["scale"], packed["zeros"]
    bias, convolves = packed["bias"], bool(plan.places[0])
    places = plan.places if convolves else ()
    if plan.route == "sum":
        return _direct_sum(
            head, (bias, *places, *plan.y, *plan.residual, "sum", 1.0, plan.name, []), layer, convolves=convolves
        )
    operation = torch.ops.onednn.qconv_pointwise.default if convolves else torch.ops.onednn.qlinear_pointwise.default
    rest = (*head, bias, *places, *plan.y, plan.name, [], "" if convolves else "none")
    return lambda x: operation(x, *rest)


def _direct_sum(head: tuple[Any, ...], tail: tuple[Any, ...], layer: Int8Product, *, convolves: bool) -> Call:
    operation = torch.ops.onednn.qconv2d_pointwise.binary if convolves else torch.ops.onednn.qlinear_pointwise.binary
    layout = torch.channels_last if convolves else torch.contiguous_format
    tail, is_free = (*tail, "" if convolves else "none"), layer.frees_residual

    def add(x: Tensor, residual: Tensor) -> Tensor:
        spare = residual.contiguous(memory_format=layout)
        return operation(  # type: ignore[no-any-return]
            x, *head, spare if is_free or spare is not residual else residual.clone(), *tail
        )

    return add


def _convolve(layer: Any, x: Tensor, residual: Tensor | None = None) -> Tensor:
    if layer.num_dimensions != 1:
        return _compute(layer, x, residual)
    return _compute(layer, x.unsqueeze(2), None if residual is None else residual.unsqueeze(2)).squeeze(2)


def _compute(layer: Any, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """As much as the kernel does; then codes are clamped, or what is left is done in float32."""
    packed = layer.packed()
    plan: OnednnPlan = packed["plan"]
    x = to_unsigned(x, layer.x)
    codes = x if plan.sides is None else F.pad(x, plan.sides, value=plan.fill), 1.0, plan.x_zero
    weight, bias = (packed["weight"], packed["scale"], packed["zeros"]), packed["bias"]
    if plan.route == "kernel":
        y = (
            from_unsigned(_call(codes, weight, bias, plan, plan.y), layer.y)
            if layer.y
            else _call(codes, weight, bias, plan, FLOAT)
        )
    elif plan.route == "float":
        return _finish(layer, _call(codes, weight, bias, plan, FLOAT), residual)
    else:
        assert residual is not None
        # Inductor cannot freeze a graph with an operation that overwrites its input
        add = _sum_apart if torch.compiler.is_compiling() else _sum
        y = add(layer, codes, (weight, bias), residual, plan)
    return y if plan.bounds is None else y.clamp_(*plan.bounds)


def _call(codes: Codes, weight: Weight, bias: Tensor | None, plan: OnednnPlan, y: Target) -> Tensor:
    name = plan.name if plan.route == "kernel" else "none"
    if plan.places[0]:
        return qconv(codes, weight, bias, plan.places, y, name)
    return qlinear(codes, weight, bias, y, name)


def _sum(layer: Any, codes: Codes, parts: tuple[Weight, Tensor | None], residual: Tensor, plan: OnednnPlan) -> Tensor:
    """The kernel writes into the tensor that it adds, so that others who need it must not see that."""
    (weight, bias), is_image = parts, bool(plan.places[0])
    spare = to_unsigned(residual, layer.residual)
    spare = spare.contiguous(memory_format=torch.channels_last if is_image else torch.contiguous_format)
    spare = residual.clone() if spare is residual and not layer.frees_residual else spare
    added = spare, *plan.residual
    if is_image:
        return from_unsigned(qconv_sum(codes, weight, added, bias, plan.places, plan.y, plan.name), layer.y)
    return from_unsigned(qlinear_sum(codes, weight, added, bias, plan.y, plan.name), layer.y)


def _sum_apart(
    layer: Any, codes: Codes, parts: tuple[Weight, Tensor | None], residual: Tensor, plan: OnednnPlan
) -> Tensor:
    """The same in float32: the sums of the kernel come in steps of the output."""
    steps = _call(codes, *parts, plan, FLOAT) + (residual.float() - layer.residual.zero_point) * plan.residual[0]
    return encode_by(steps.relu() if plan.name == "relu" else steps, 1.0, layer.y.zero_point, layer.y.dtype)


def _finish(layer: Any, real: Tensor, residual: Tensor | None) -> Tensor:
    real = activate(real if residual is None else real.add_(decode(residual, layer.residual)), layer.activation)
    return real if layer.y is None else encode(real, layer.y)


def _multiply_dynamic(layer: Int8DynamicLinear, x: Tensor) -> Tensor:
    if not x.numel():
        return x.new_zeros(*x.shape[:-1], len(layer.weight))
    packed = layer.packed()
    weight = packed["weight"], layer.weight_scale, packed["zeros"]
    scale, zero_point = range_affine(x)
    if isinstance(scale, Tensor):
        codes = round_steps(x / scale, zero_point, torch.uint8)
        return qlinear_any(codes, scale, zero_point, weight, layer.bias)
    return qlinear((encode_by(x, scale, zero_point, torch.uint8), scale, zero_point), weight, layer.bias, FLOAT, "none")


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
