"""From operations of torch to steps: what has an int8 form."""

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph.operations import argument, called_module, operation, shape_of, takes_nearest
from dlkit.quantize.graph.steps import (
    CONVOLUTIONS,
    TRANSPOSED,
    Elementwise,
    GraphStep,
    Join,
    MaxPool,
    MeanPool,
    Multiplication,
    Padding,
    Product,
    Resize,
    Sum,
)
from dlkit.quantize.int8 import Activation

STEPS = "_steps"
_NO_BOUNDS = (-math.inf, math.inf)
# class of torch.nn, name as a fused activation, and the bounds outside of which it hardly changes
_ACTIVATIONS: dict[str, tuple[Any, Activation, tuple[float, float]]] = {
    "relu": (nn.ReLU, "relu", (0.0, math.inf)),
    "relu6": (nn.ReLU6, "relu6", (0.0, 6.0)),
    "hardswish": (nn.Hardswish, "hardswish", (-3.0, math.inf)),
    "silu": (nn.SiLU, "silu", (-8.0, math.inf)),
    "gelu": (nn.GELU, "gelu", (-4.0, math.inf)),
    "hardsigmoid": (nn.Hardsigmoid, "none", (-3.0, 3.0)),
    "sigmoid": (nn.Sigmoid, "none", (-6.5, 6.5)),
    "tanh": (nn.Tanh, "none", (-3.5, 3.5)),
    "elu": (nn.ELU, "none", _NO_BOUNDS),
    "leaky_relu": (nn.LeakyReLU, "none", _NO_BOUNDS),
    "mish": (nn.Mish, "none", _NO_BOUNDS),
    "softplus": (nn.Softplus, "none", _NO_BOUNDS),
    "selu": (nn.SELU, "none", _NO_BOUNDS),
    "celu": (nn.CELU, "none", _NO_BOUNDS),
    "logsigmoid": (nn.LogSigmoid, "none", _NO_BOUNDS),
    "softsign": (nn.Softsign, "none", _NO_BOUNDS),
}
_BY_CLASS = {kind: (activation, bounds) for kind, activation, bounds in _ACTIVATIONS.values()}
_BY_CLASS |= dict.fromkeys((nn.Hardshrink, nn.Softshrink), ("none", _NO_BOUNDS))
# what functions of torch take besides their input, in its order
_OPTIONS: dict[str, tuple[str, ...]] = {
    "elu": ("alpha",),
    "celu": ("alpha",),
    "gelu": ("approximate",),
    "leaky_relu": ("negative_slope",),
    "softplus": ("beta", "threshold"),
    "max_pool": ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "adaptive_avg_pool": ("output_size",),
    "pad": ("pad", "mode", "value"),
    "interpolate": ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias"),
}
_MAX: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE: tuple[Any, ...] = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_PADDINGS: tuple[Any, ...] = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
_PADDINGS += (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_POOLS = {"max_pool": _MAX, "avg_pool": _AVERAGE, "adaptive_avg_pool": _ADAPTIVE}
_ADAPT = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
}


def write_steps(traced: GraphModule) -> None:
    """Put a step in the place of every operation that has an int8 form, unless its node says why it stays in float."""
    for node in list(traced.graph.nodes):
        if "why_float" in node.meta or node.op not in ("call_module", "call_function", "call_method"):
            continue
        if operation(node) == "mean":
            node = _write_mean(traced, node)
        made = _step_of(traced, node)
        if made is not None:
            replace_by_step(traced, node, *made)
    traced.graph.lint()
    traced.recompile()


def replace_by_step(traced: GraphModule, node: Node, step: GraphStep, inputs: tuple[Any, ...]) -> Node:
    """A call of the step instead of the node: under the module's own name, or a new one for a function."""
    target = str(node.target) if node.op == "call_module" else f"{STEPS}.{node.name}"
    if node.op == "call_module":
        traced.set_submodule(target, step.train(traced.training))
    else:
        traced.add_submodule(target, step.train(traced.training))
    with traced.graph.inserting_before(node):
        call = traced.graph.create_node("call_module", target, inputs, name=node.name)
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    traced.graph.erase_node(node)
    return call


def _step_of(traced: GraphModule, node: Node) -> tuple[GraphStep, tuple[Any, ...]] | None:
    """The step of a node and its inputs, or None."""
    module = called_module(traced, node)
    if isinstance(module, GraphStep):
        return None
    if module is None:
        return _function_step(node)
    inputs = (*node.args, *node.kwargs.values())
    is_plain = len(inputs) == 1 and isinstance(
        inputs[0], Node
    )  # a transposed convolution may be told its output's size
    step = _module_step(module) if is_plain else None
    return None if step is None else (step, inputs)


def _module_step(module: nn.Module) -> GraphStep | None:
    kind = type(module)
    if hasattr(module, "inplace"):
        module.inplace = False  # type: ignore[assignment]
    if kind in CONVOLUTIONS or kind in TRANSPOSED or kind is nn.Linear:
        return Product(module) if _has_plain_padding(module) else None
    if kind in _BY_CLASS:
        activation, bounds = _BY_CLASS[kind]
        if kind is nn.GELU and getattr(module, "approximate", "none") != "none":
            activation = "none"
        return Elementwise(module, activation=activation, bounds=bounds, is_clamp=kind in (nn.ReLU, nn.ReLU6))
    if isinstance(module, nn.Hardtanh):
        return _clamp(module.min_val, module.max_val)
    if isinstance(module, nn.PReLU):
        return Elementwise(module) if module.num_parameters == 1 else None
    if kind in _MAX:
        return MaxPool(module) if not module.return_indices else None
    if isinstance(module, nn.Upsample) and not takes_nearest(module.mode):
        return Resize(**{name: getattr(module, name) for name in _OPTIONS["interpolate"] if hasattr(module, name)})
    if kind in _PADDINGS:
        return _padding(module.padding, module.value)
    if kind in _AVERAGE:
        return MeanPool(module) if getattr(module, "divisor_override", None) is None else None
    return MeanPool(module) if kind in _ADAPTIVE and _is_sized(module) else None


def _padding(sides: Any, value: Any) -> GraphStep | None:
    """Zeros around an image whose size is known before."""
    is_plain = not value and all(isinstance(side, int) for side in sides)
    return Padding(tuple(sides)) if is_plain else None


def _is_sized(module: Any) -> bool:
    sizes = module.output_size if isinstance(module.output_size, list | tuple) else (module.output_size,)
    return all(isinstance(size, int) for size in sizes)


def _has_plain_padding(layer: Any) -> bool:
    if isinstance(layer, nn.Linear):
        return True
    sides = layer._reversed_padding_repeated_twice
    return layer.padding_mode == "zeros" and tuple(sides[::2]) == tuple(sides[1::2])


def _clamp(low: Any, high: Any) -> GraphStep | None:
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if not all(isinstance(bound, int | float) for bound in (low, high)) or not low <= 0 <= high:
        return None
    name: Activation = {(0, math.inf): "relu", (0, 6): "relu6"}.get((low, high), "none")  # type: ignore[assignment]
    bounds = float(low), float(high)
    function = partial(_clamped, low=bounds[0], high=bounds[1])
    return Elementwise(function, activation=name, bounds=bounds, is_clamp=True)


def _clamped(x: Any, *, low: float, high: float) -> Any:
    return x.clamp(low, high)


def _function_step(node: Node) -> tuple[GraphStep, tuple[Any, ...]] | None:
    name, x = operation(node), argument(node, 0, "input")
    if name in _ARITHMETIC:
        return _arithmetic_step(node, name)
    if name == "interpolate":
        return _resize_step(node, x)
    if name == "cat":
        tensors = argument(node, 0, "tensors")
        is_list = isinstance(tensors, list | tuple) and all(shape_of(tensor) is not None for tensor in tensors)
        is_plain = is_list and not set(node.kwargs) - {"tensors", "dim"}
        return (Join(argument(node, 1, "dim", 0)), tuple(tensors)) if is_plain else None
    if name is None or shape_of(x) is None or shape_of(node) is None:
        return None
    bounds = _bounds_of(node, name)
    step = _option_step(node, name) if bounds is None else _clamp(*bounds)
    return None if step is None else (step, (x,))


def _resize_step(node: Node, x: Any) -> tuple[GraphStep, tuple[Any, ...]] | None:
    """Images brought to a size that is known, or computed from that of another tensor."""
    options = {**dict(zip(_OPTIONS["interpolate"], node.args[1:], strict=False)), **node.kwargs}
    size = options.pop("size", None)
    options.pop("input", None)
    if (
        shape_of(x) is None
        or takes_nearest(options.get("mode", "nearest"))
        or any(isinstance(one, Node) for one in options.values())
    ):
        return None
    return Resize(**options), (x,) if size is None else (x, size)


def _arithmetic_step(node: Node, name: str) -> tuple[GraphStep, tuple[Any, ...]] | None:
    """Two tensors added or multiplied, or one tensor and a number."""
    x, other = argument(node, 0, "input"), argument(node, 1, "other")
    if set(node.kwargs) - {"input", "other"}:
        return None
    if shape_of(x) is not None and shape_of(other) is not None:
        step = {"add": Sum, "mul": Multiplication}.get(name)
        return None if step is None else (step(), (x, other))
    if shape_of(x) is not None and _is_number(other) and (other or name != "div"):
        return Elementwise(partial(_computed, operation=_ARITHMETIC[name], other=other)), (x,)
    if shape_of(other) is not None and _is_number(x) and name != "div":
        return Elementwise(partial(_computed, operation=_ARITHMETIC[name], first=x)), (other,)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _computed(x: Any, *, operation: Callable[[Any, Any], Any], first: Any = None, other: Any = None) -> Any:
    return operation(x, other) if first is None else operation(first, x)


def _bounds_of(node: Node, name: str) -> tuple[Any, Any] | None:
    """Those of a clamp, else None."""
    match name:
        case "hardtanh":
            return argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)
        case "clamp":
            return argument(node, 1, "min"), argument(node, 2, "max")
        case "clamp_min":
            return argument(node, 1, "min"), None
        case "clamp_max":
            return None, argument(node, 1, "max")
    return None


def _option_step(node: Node, name: str) -> GraphStep | None:
    """The step of an activation or a pool, whose options are those of its module."""
    names, rest = _OPTIONS.get(name, ()), node.args[1:]
    options = {**dict(zip(names, rest, strict=False)), **node.kwargs}
    options = {key: value for key, value in options.items() if key not in ("input", "inplace")}
    is_known = len(rest) <= len(names) and options.keys() <= {*names}
    is_known = is_known and not any(isinstance(value, Node) for value in options.values())
    if not is_known or name not in {*_ACTIVATIONS, *_POOLS, "pad"}:
        return None
    if name == "pad":
        is_constant = options.get("mode", "constant") == "constant"
        return _padding(options["pad"], options.get("value")) if is_constant else None
    if name in _ACTIVATIONS:
        return _module_step(_ACTIVATIONS[name][0](**options))
    num = int(getattr(node.target, "__name__", "")[-2])  # of dimensions
    return _module_step(_POOLS[name][num - 1](**options))


def _write_mean(traced: GraphModule, node: Node) -> Node:
    """A mean over all places of an image as a pool, and a flatten where the dimensions go; the pool, or the node as it was."""
    x, dims = _means_over(node)
    inner = x if operation(x) == "mean" and len(x.users) == 1 and _keeps_dims(x) == _keeps_dims(node) else None
    if inner is not None:  # of rows, and then of columns
        x, others = _means_over(inner)
        left = [dim for dim in range(len(shape_of(x) or ())) if _keeps_dims(inner) or dim not in others]
        dims = [*others, *(left[dim] for dim in dims)] if others else []
    shape = shape_of(x) or ()
    if len(shape) not in _ADAPT or sorted(dims) != list(range(2, len(shape))):
        return node
    with traced.graph.inserting_before(node):
        sizes = (1,) * (len(shape) - 2)
        pool = traced.graph.call_function(_ADAPT[len(shape)], (x, sizes[0] if len(sizes) == 1 else sizes))
        pool.meta = {**node.meta, "shape": (*shape[:2], *sizes)}
        result = pool
        if not _keeps_dims(node):
            result = traced.graph.call_method("flatten", (pool, 1))
            result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
    for one in (node, *([] if inner is None else [inner])):
        traced.graph.erase_node(one)
    return pool


def _means_over(node: Node) -> tuple[Any, list[int]]:
    """What a mean is taken of, and over which dimensions; none where that is not plain."""
    x, dims = argument(node, 0, "input"), argument(node, 1, "dim")
    rank, dims = len(shape_of(x) or ()), (dims,) if isinstance(dims, int) else dims
    is_plain = isinstance(dims, list | tuple) and not set(node.kwargs) - {"input", "dim", "keepdim"}
    return x, [dim % rank for dim in dims] if is_plain and rank else []


def _keeps_dims(mean: Node) -> bool:
    return bool(argument(mean, 2, "keepdim", False))
