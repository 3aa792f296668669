"""Which layers of a quantized network really are int8, and why the others are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.core.models import is_int8_layer, with_plain_weights
from dlkit.quantize.dynamic import DYNAMIC_TYPES, why_float
from dlkit.quantize.graph import (
    STEPS,
    Elementwise,
    GraphFacts,
    GraphStep,
    called_module,
    graph_facts,
    is_below,
    is_moving,
    label_of,
)
from dlkit.quantize.int8 import Dequantize, Int8Lookup
from dlkit.quantize.recipe import Recipe

# run in int8 where their input is, fold into their neighbours, or do nothing at all
_PASSIVE = ("pooling.", "dropout.", "flatten.", "padding.", "linear.Identity", "activation.ReLU", "activation.Hardtanh")
_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "truediv"})
_USER = "kept in float by the user"
_WEIGHT_READ = "its weight is used without calling the layer"
_FOLDED = "folded into the layer before it"
_NO_FORM = "it has no int8 form"
_BETWEEN = "it stands between layers in float"
_NORM = "norms of a residual stream lose too much in 8 bits"
_REASONS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.LayerNorm, nn.RMSNorm), _NORM),
    ((nn.RNNBase, nn.RNNCellBase), "recurrent layers are int8 only by --dynamic"),
    ((nn.MultiheadAttention,), "only self-attention without masks has an int8 form"),
    ((nn.modules.conv._ConvNd,), "int8 convolutions pad both sides alike, with zeros"),
    ((nn.PReLU,), "a slope for each channel has no int8 form"),
)
_FUNCTION_REASONS = {
    "matmul": "products of activations are faster in float",
    "layer_norm": _NORM,
    "stack": "tensors with different scales cannot be stacked in int8",
}


@dataclass(frozen=True)
class LayerStatus:
    """One layer of the float network: whether it is int8 now, and if not why; or in which way, where that is not plain."""

    name: str
    type: str
    is_int8: bool
    reason: str = ""


def float_weights_note(network: nn.Module, statuses: Sequence[LayerStatus]) -> str | None:
    """A sentence where most of a float network's weights stay in float, so that its file hardly shrinks; else None."""
    plain = with_plain_weights(network)
    weights = {name: sum(map(Tensor.numel, module.parameters())) for name, module in plain.named_modules()}
    sizes = {row.name: weights.get(row.name, 0) for row in statuses}  # functions of the graph have none
    in_int8 = sum(sizes[row.name] for row in statuses if row.is_int8)
    total = weights[""]
    if 2 * in_int8 >= total:
        return None
    largest = max((row for row in statuses if not row.is_int8), key=lambda row: sizes[row.name], default=None)
    why = "" if largest is None else f"; of {largest.name}: {largest.reason}"
    return f"{1 - in_int8 / total:.0%} of the weights stay in float, so that the file is hardly smaller{why}"


def layer_statuses(
    network: nn.Module, quantized: nn.Module, recipe: Recipe, *, kept: Mapping[str, str] | None = None
) -> list[LayerStatus]:
    """One row for every layer with parameters, activation, and sum or product of tensors of a float network.

    `quantized` was made from it with the recipe. `kept` says why modules are in the recipe's keep_float where it was not the
    user who named them, such as "kept in float by the accuracy search".
    """
    network = with_plain_weights(network)
    layers = [(name, module) for name, module in network.named_modules() if _is_layer(network, name, module)]
    if isinstance(quantized, GraphModule):
        int8 = {str(node.target) for node in quantized.graph.nodes if node.op == "call_module" and "int8" in node.meta}
        rows = [_describe_static(name, module, quantized, int8) for name, module in layers]
    else:
        rows = [_describe_dynamic(name, module, quantized, recipe) for name, module in layers]
    rows = [_with_kept_reason(row, recipe, kept or {}) for row in rows]
    return rows + (_functions(network, quantized) if isinstance(quantized, GraphModule) else [])


def _is_layer(network: nn.Module, name: str, module: nn.Module) -> bool:
    kind = f"{type(module).__module__}.{type(module).__name__}".removeprefix("torch.nn.modules.")
    parent = network.get_submodule(name.rpartition(".")[0])
    if kind.startswith(_PASSIVE) or (parent is not module and isinstance(parent, nn.MultiheadAttention)):
        return False
    is_leaf = next(module.children(), None) is None or isinstance(module, nn.MultiheadAttention)
    has_parameters = next(module.parameters(), None) is not None
    return is_leaf and (
        has_parameters or kind.startswith(("activation.", "batchnorm.", "instancenorm.", "upsampling."))
    )


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
        return LayerStatus(name, kind, False, why_float(name, recipe) or _WEIGHT_READ)
    if isinstance(module, nn.RNNBase | nn.Linear):
        return LayerStatus(name, kind, False, "Linear, recurrent layers and cells have int8 forms, not this class")
    return LayerStatus(name, kind, False, "dynamic quantization covers linear and recurrent layers")


def _describe_static(name: str, module: nn.Module, quantized: GraphModule, int8: set[str]) -> LayerStatus:
    kind, facts = type(module).__name__, graph_facts(quantized)
    whole = next((whole for whole in facts.attention if is_below(name, (whole,))), None)
    if whole is not None and (name == whole or name not in facts.called):
        return LayerStatus(
            name, kind, True, "its projections; what lies between them is float" if name == whole else ""
        )
    if name in facts.fused:
        return LayerStatus(name, kind, True, f"in {facts.fused[name]}")
    written = [target for target, owner in facts.written.items() if owner == name]
    if name in int8 or (written and int8.issuperset(written)):
        calls = len(facts.shared.get(name, ())) + 1
        return LayerStatus(name, kind, True, f"called {calls} times, with a scale for each" if calls > 1 else "")
    if written and not any(_has(quantized, one) for one in written):
        return LayerStatus(name, kind, True, _FOLDED)
    return _describe_float(name, module, quantized, facts)


def _describe_float(name: str, module: nn.Module, quantized: GraphModule, facts: GraphFacts) -> LayerStatus:
    kind = type(module).__name__
    if any(is_below(name, (whole,)) and name != whole for whole in facts.called):
        reason = "in a layer of torch that torch.fx takes as a whole; --dynamic reaches it"
        return LayerStatus(name, kind, False, reason)
    special = next((text for types, text in _REASONS if isinstance(module, types)), None)
    if name not in facts.called:
        unread = "does not run in evaluation mode"
        return LayerStatus(name, kind, False, (special or _WEIGHT_READ) if name in facts.read else unread)
    if not _has(quantized, name):
        return LayerStatus(name, kind, True, _FOLDED)
    default = _BETWEEN if isinstance(quantized.get_submodule(name), GraphStep) else _NO_FORM
    return LayerStatus(name, kind, False, facts.why_float.get(name) or special or default)


def _has(quantized: GraphModule, name: str) -> bool:
    try:
        quantized.get_submodule(name)
    except AttributeError:
        return False
    return True


def _functions(network: nn.Module, quantized: GraphModule) -> list[LayerStatus]:
    """Rows for sums, products and the like, by the names of their nodes in the graph."""
    facts = graph_facts(quantized)
    modules = {name for name, _ in network.named_modules()}
    rows = [
        LayerStatus(name, name.rstrip("_0123456789"), True, f"in {into}")
        for name, into in facts.fused.items()
        if name not in modules
    ]
    for node in quantized.graph.nodes:
        module = called_module(quantized, node)
        if node.op == "call_module" and str(node.target).startswith(f"{STEPS}."):
            is_int8 = "int8" in node.meta
            label = label_of(node)
            if isinstance(module, Elementwise | Int8Lookup) and label.rstrip("_0123456789") in _ARITHMETIC:
                continue  # with a number: no layer
            reason = "" if is_int8 else facts.why_float.get(str(node.target), _BETWEEN)
            rows.append(LayerStatus(label, label.rstrip("_0123456789"), is_int8, reason))
        elif module is None and "why_float" in node.meta and not is_moving(quantized, node):
            rows.append(LayerStatus(node.name, _function_name(node.target), False, node.meta["why_float"]))
        elif module is None and _takes_decoded(quantized, node) and not is_moving(quantized, node):
            kind = _function_name(node.target)
            rows.append(LayerStatus(node.name, kind, False, _FUNCTION_REASONS.get(kind, _NO_FORM)))
    return rows


def _function_name(target: object) -> str:
    return str(getattr(target, "__name__", target)).partition(".")[0]


def _takes_decoded(quantized: GraphModule, node: Node) -> bool:
    if node.op not in ("call_function", "call_method") or "int8" in node.meta or node.target is getattr:
        return False
    return any(isinstance(called_module(quantized, source), Dequantize) for source in node.all_input_nodes)
