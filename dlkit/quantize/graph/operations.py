"""What the nodes of a graph compute, by one name for each operation: torch has up to six ways to write a sum."""

import operator
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "add": (operator.add, operator.iadd, torch.add),
    "mul": (operator.mul, operator.imul, torch.mul),
    "sub": (operator.sub, operator.isub, torch.sub),
    "div": (operator.truediv, operator.itruediv, torch.div),
    "cat": (torch.cat, torch.concat, torch.concatenate),
    "relu": (F.relu, F.relu_, torch.relu, torch.relu_),
    "relu6": (F.relu6,),
    "hardtanh": (F.hardtanh, F.hardtanh_),
    "clamp": (torch.clamp, torch.clamp_, torch.clip),
    "clamp_min": (torch.clamp_min, torch.clamp_min_),
    "clamp_max": (torch.clamp_max, torch.clamp_max_),
    "hardswish": (F.hardswish,),
    "hardsigmoid": (F.hardsigmoid,),
    "silu": (F.silu,),
    "gelu": (F.gelu,),
    "sigmoid": (torch.sigmoid, torch.sigmoid_, F.sigmoid),
    "tanh": (torch.tanh, torch.tanh_, F.tanh),
    "elu": (F.elu, F.elu_),
    "leaky_relu": (F.leaky_relu, F.leaky_relu_),
    "mish": (F.mish,),
    "softplus": (F.softplus,),
    "selu": (F.selu, torch.selu, torch.selu_),
    "celu": (F.celu, torch.celu, torch.celu_),
    "logsigmoid": (F.logsigmoid,),
    "softsign": (F.softsign,),
    "exp": (torch.exp,),
    "max_pool": (F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    "avg_pool": (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    "adaptive_avg_pool": (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    "mean": (torch.mean,),
    "conv": (F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d),
    "linear": (F.linear,),
    "batch_norm": (F.batch_norm,),
    "layer_norm": (F.layer_norm, F.rms_norm, torch.layer_norm),
    "interpolate": (F.interpolate,),
    "pad": (F.pad, torch.constant_pad_nd),
    "getitem": (operator.getitem,),
    "getattr": (getattr, torch.ops.aten.sym_size.int),
    "slice": (torch.ops.aten.slice.Tensor, torch.ops.aten.select.int, torch.narrow, torch.select),
    "flatten": (torch.flatten,),
    "reshape": (torch.reshape,),
    "permute": (torch.permute,),
    "transpose": (torch.transpose, torch.swapaxes),
    "squeeze": (torch.squeeze,),
    "unsqueeze": (torch.unsqueeze,),
    "chunk": (torch.chunk,),
    "split": (torch.split,),
    "movedim": (torch.movedim,),
    "roll": (torch.roll,),
    "flip": (torch.flip,),
    "pixel_shuffle": (F.pixel_shuffle, F.pixel_unshuffle),
    "channel_shuffle": (F.channel_shuffle, F.native_channel_shuffle),
}
_BY_FUNCTION = {function: name for name, functions in _FUNCTIONS.items() for function in functions}
_IN_PLACE_OPERATORS = frozenset(
    getattr(operator, name) for name in ("iadd", "isub", "imul", "itruediv", "ipow", "imod", "ifloordiv", "imatmul")
)
_OTHER_METHODS = {
    "view": "reshape",
    "clip": "clamp",
    "swapaxes": "transpose",
    "unflatten": "reshape",
    "contiguous": "contiguous",
    "narrow": "slice",
    "select": "slice",
}
_KNOWN_METHODS = (
    {name: name for name in _FUNCTIONS} | _OTHER_METHODS | {"size": "getattr", "dim": "getattr", "numel": "getattr"}
)
# they hand on values as they are, in other places
MOVING = frozenset(
    {"flatten", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "chunk", "split", "movedim", "roll", "flip"}
    | {"pixel_shuffle", "channel_shuffle", "getitem", "slice", "contiguous"}
)
DROPOUTS = nn.modules.dropout._DropoutNd
_MOVING_MODULES = (
    *(nn.Identity, DROPOUTS, nn.Flatten, nn.Unflatten),
    *(nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle),
)


def called_module(network: GraphModule, node: Node) -> nn.Module | None:
    """The module that a node calls, or None for a node of another kind."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def attribute_of(network: GraphModule, node: Node) -> Tensor:
    """The parameter or buffer that a node reads."""
    found: Tensor = attrgetter(str(node.target))(network)
    return found


def operation(node: Node) -> str | None:
    """The name of the operation that a node computes by a function or method of torch; None for others and for modules."""
    if node.op == "call_function":
        return _BY_FUNCTION.get(node.target)
    if node.op == "call_method":
        return _KNOWN_METHODS.get(str(node.target).removesuffix("_"))
    return None


def argument(node: Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, wherever it is given."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def is_moving(network: GraphModule, node: Node) -> bool:
    """Whether an operation only moves values of its input, so that codes stay codes."""
    module = called_module(network, node)
    if isinstance(module, nn.Upsample) or operation(node) == "interpolate":
        return takes_nearest(argument(node, 3, "mode", "nearest") if module is None else module.mode)
    return isinstance(module, _MOVING_MODULES) or operation(node) in MOVING


def takes_nearest(mode: object) -> bool:
    """Whether an interpolation of this mode makes no values that were not there."""
    return mode in ("nearest", "nearest-exact")


def works_in_place(network: GraphModule, node: Node) -> bool:
    """Whether an operation writes its result into its input."""
    if node.op == "call_module":
        return bool(getattr(called_module(network, node), "inplace", False))
    if node.op not in ("call_method", "call_function"):
        return False
    if isinstance(node.target, torch._ops.OpOverload):
        return bool(node.target._schema.is_mutable)
    name = str(getattr(node.target, "__name__", node.target))
    is_named_so = name.endswith("_") and not name.endswith("__") and name != "is_"
    return is_named_so or node.target in _IN_PLACE_OPERATORS or node.kwargs.get("inplace") is True


def write_out_of_place(network: GraphModule, node: Node) -> None:
    """Let an operation that `works_in_place` make a new tensor, if torch has it so."""
    name = operation(node)
    if node.op == "call_module":
        called_module(network, node).inplace = False  # type: ignore[union-attr]
    elif node.kwargs.get("inplace") is True:
        node.update_kwarg("inplace", False)
    elif node.op == "call_method" and hasattr(torch.Tensor, str(node.target).removesuffix("_")):
        node.target = str(node.target).removesuffix("_")
    elif node.target in _IN_PLACE_OPERATORS:
        node.target = getattr(operator, node.target.__name__[1:])  # type: ignore[union-attr]
    elif node.op == "call_function" and name is not None:
        node.target = _FUNCTIONS[name][0]


def drop_unread(traced: GraphModule) -> None:
    """Take out operations whose results nobody reads, unless they overwrite what others do."""
    traced.graph.eliminate_dead_code(lambda node: node.is_impure() or works_in_place(traced, node))
    traced.recompile()


def is_size(node: Node) -> bool:
    """Whether a value is a size or a place of a tensor, which codes have, too."""
    is_other = node.target is getattr and node.args[1] not in ("shape", "ndim", "device")
    return operation(node) == "getattr" and not is_other


def shape_of(node: Any) -> tuple[int, ...] | None:
    """Sizes of a node's float tensor, None for anything else."""
    return node.meta.get("shape") if isinstance(node, Node) else None
