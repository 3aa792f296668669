"""Which layers of a quantized network really are int8, and why the others are not."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.fx import GraphModule, Node

from dlkit.core.models import is_int8_layer
from dlkit.quantize.dynamic import DYNAMIC_TYPES, why_float
from dlkit.quantize.fx import FloatOperation, GraphFacts, graph_facts, is_below
from dlkit.quantize.recipe import Recipe

# run in int8 where their input is, fold into their neighbours, or do nothing at all
_PASSIVE = ("pooling.", "dropout.", "flatten.", "padding.", "linear.Identity", "activation.ReLU", "activation.Hardtanh")
_USER = "kept in float by the user"
_WEIGHT_READ = "its weight is used without calling the layer"
_NO_KERNEL = "torch has no int8 kernel for it"
_NORM = "norms of a residual stream lose too much in 8 bits"
_RESIDUAL = "in a residual stream that ends in a norm"
_WITH_NUMBER = "torch would put values before and after a sum or product with a number on one grid"
_BINARY_NAMES = frozenset({"add", "iadd", "mul", "imul"})
_FUNCTION_REASONS = {
    "matmul": "products of activations are faster in float",
    "layer_norm": _NORM,
    "stack": "tensors with different scales cannot be stacked in int8",
    "avg_pool2d": "qnnpack's kernel for its padding is wrong",
}
_REASONS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.LayerNorm, nn.RMSNorm), _NORM),
    ((nn.ELU,), "torch's int8 form of it cannot be stored"),
    ((nn.Conv3d,), "qnnpack's packed weights of it cannot be stored"),
    ((nn.PReLU,), "torch's int8 kernel for it is wrong"),
    ((nn.RNNBase, nn.RNNCellBase), "recurrent layers are int8 only by --dynamic"),
    (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        "torch's int8 kernel for it is wrong but on qnnpack",
    ),
    ((nn.MultiheadAttention,), "only self-attention without masks has an int8 form"),
)
# functions that compute nothing
_MOVING = frozenset(
    {"chunk", "contiguous", "expand", "flatten", "getattr", "getitem", "movedim", "permute", "reshape", "roll", "split"}
    | {"squeeze", "stack", "swapaxes", "transpose", "unflatten", "unsqueeze", "view"}
)


@dataclass(frozen=True)
class LayerStatus:
    """One layer of the float network: whether it is int8 now, and if not why; or in which way, where that is not plain."""

    name: str
    type: str
    is_int8: bool
    reason: str = ""


def layer_statuses(
    network: nn.Module, quantized: nn.Module, recipe: Recipe, *, kept: Mapping[str, str] | None = None
) -> list[LayerStatus]:
    """One row for every layer with parameters, activation, and sum or product of tensors of a float network.

    `quantized` was made from it with the recipe. `kept` says why modules are in the recipe's keep_float where it was not the
    user who named them, such as "kept in float by the accuracy search".
    """
    layers = [(name, module) for name, module in network.named_modules() if _is_layer(network, name, module)]
    if isinstance(quantized, GraphModule):
        int8_names = {node.target for node in int8_nodes(quantized) if node.op == "call_module"}
        facts = graph_facts(quantized)
        rows = [
            _describe_static(name, module, quantized, facts, is_reached=name in int8_names) for name, module in layers
        ]
    else:
        rows = [_describe_dynamic(name, module, quantized, recipe) for name, module in layers]
    rows = [_with_kept_reason(row, recipe, kept or {}) for row in rows]
    return rows + (_functions(quantized) if isinstance(quantized, GraphModule) else [])


def _is_layer(network: nn.Module, name: str, module: nn.Module) -> bool:
    kind = f"{type(module).__module__}.{type(module).__name__}".removeprefix("torch.nn.modules.")
    parent = network.get_submodule(name.rpartition(".")[0])
    if kind.startswith(_PASSIVE) or (parent is not module and isinstance(parent, nn.MultiheadAttention)):
        return False
    is_leaf = next(module.children(), None) is None or isinstance(module, nn.MultiheadAttention)
    has_parameters = next(module.parameters(), None) is not None
    return is_leaf and (has_parameters or kind.startswith(("activation.", "batchnorm.", "instancenorm.")))


def _with_kept_reason(row: LayerStatus, recipe: Recipe, kept: Mapping[str, str]) -> LayerStatus:
    if row.is_int8 or not is_below(row.name, recipe.keep_float):
        return row
    reasons = [reason for name, reason in kept.items() if is_below(row.name, (name,))]
    return replace(row, reason=reasons[0] if reasons else _USER)


def _describe_dynamic(name: str, module: nn.Module, quantized: nn.Module, recipe: Recipe) -> LayerStatus:
    kind = type(module).__name__
    if is_int8_layer(quantized.get_submodule(name)):
        return LayerStatus(name, kind, True)
    if type(module) in DYNAMIC_TYPES:
        return LayerStatus(name, kind, False, why_float(name, module, recipe) or _WEIGHT_READ)
    if isinstance(module, nn.RNNBase | nn.Linear):
        return LayerStatus(
            name, kind, False, "torch has int8 forms of Linear, LSTM, GRU and cells only, not of this class"
        )
    return LayerStatus(name, kind, False, "dynamic quantization covers linear and recurrent layers")


def _describe_static(
    name: str, module: nn.Module, quantized: GraphModule, facts: GraphFacts, *, is_reached: bool
) -> LayerStatus:
    kind = type(module).__name__
    if name in facts.attention:
        return LayerStatus(name, kind, True, "its projections; what lies between them is float")
    special = next((text for types, text in _REASONS if isinstance(module, types)), None)
    if any(is_below(name, (whole,)) and name != whole for whole in facts.called):
        return LayerStatus(
            name, kind, False, "in a layer of torch that torch.fx takes as a whole; --dynamic reaches it"
        )
    if name not in facts.called and name not in facts.read:
        return LayerStatus(name, kind, False, "does not run in evaluation mode")
    if name not in facts.called:
        return LayerStatus(name, kind, False, special or _WEIGHT_READ)
    try:
        found = quantized.get_submodule(name)
    except AttributeError:
        return LayerStatus(name, kind, True, "folded into the layer before it")
    calls = len(facts.shared.get(name, ())) + 1
    if is_int8_layer(found) or is_reached:
        return LayerStatus(name, kind, True, f"called {calls} times, with a scale for each" if calls > 1 else "")
    return LayerStatus(name, kind, False, special or _NO_KERNEL)


def _functions(quantized: GraphModule) -> list[LayerStatus]:
    """Rows for sums, products and the like, by the names of their nodes in the graph."""
    rows = []
    in_int8 = int8_nodes(quantized)
    for node in quantized.graph.nodes:
        kind = _function_name(node.target)
        called = quantized.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(called, FloatOperation) and not isinstance(called.function, nn.Module):
            kind = _function_name(called.function)
            is_with_number = kind in _BINARY_NAMES and len(node.all_input_nodes) < 2
            reason = _WITH_NUMBER if is_with_number else _FUNCTION_REASONS.get(kind, _RESIDUAL)
            rows.append(LayerStatus(node.name, kind, False, reason))
        elif node.op == "call_function" and str(node.target).startswith("quantized."):
            rows.append(LayerStatus(node.name, kind, True))
        elif node.op == "call_function" and node not in in_int8 and _takes_dequantized(node):
            rows.append(LayerStatus(node.name, kind, False, _NO_KERNEL))
    return rows


def _function_name(target: object) -> str:
    return str(getattr(target, "__name__", target)).removeprefix("quantized.").partition(".")[0]


def _takes_dequantized(node: Node) -> bool:
    is_float = any(source.op == "call_method" and source.target == "dequantize" for source in node.all_input_nodes)
    return is_float and _function_name(node.target) not in _MOVING


def int8_nodes(quantized: GraphModule) -> set[Node]:
    """The nodes of a converted graph whose values are quantized tensors."""
    found: set[Node] = set()
    for node in quantized.graph.nodes:
        from_int8 = any(source in found for source in node.all_input_nodes)
        if _makes_int8(quantized, node) or (from_int8 and _passes_int8(quantized, node)):
            found.add(node)
    return found


def _makes_int8(quantized: GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        return is_int8_layer(quantized.get_submodule(str(node.target)))
    if node.op == "call_function":
        return node.target is torch.quantize_per_tensor or str(node.target).startswith("quantized.")
    return False


def _passes_int8(quantized: GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        module = quantized.get_submodule(str(node.target))
        return type(module).__module__.startswith("torch.nn") and next(module.parameters(), None) is None
    return node.op in ("call_function", "call_method") and node.target not in ("dequantize", getattr)
