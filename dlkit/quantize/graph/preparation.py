"""From a network to its graph of steps with observers: the one graph from which calibration, training and int8 come."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.core.models import with_plain_weights
from dlkit.core.release_memory import release_memory
from dlkit.errors import UsageError
from dlkit.quantize.graph.attention import split_attention
from dlkit.quantize.graph.exported import EXPORTED
from dlkit.quantize.graph.float_parts import is_below, keep_residuals_float
from dlkit.quantize.graph.fusion import fuse_norms, fuse_steps
from dlkit.quantize.graph.operations import called_module
from dlkit.quantize.graph.placement import find_able, mark_int8, put_observers
from dlkit.quantize.graph.recognition import write_steps
from dlkit.quantize.graph.rewrites import (
    drop_identities,
    read_results_in_place,
    separate_read_tensors,
    separate_shared_modules,
    write_layers,
    write_norms,
    write_reshapes,
)
from dlkit.quantize.graph.steps import Product
from dlkit.quantize.graph.tracing import record_shapes, trace
from dlkit.quantize.observe import build_activation_rounding, build_range_observer, build_weight_rounding
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.sharing import Network, copy_sharing_weights
from dlkit.suggestions import did_you_mean

_FACTS = "dlkit_facts"


@dataclass(frozen=True)
class GraphFacts:
    """What was known of a float network's graph before it was changed, by names of modules and of nodes of functions.

    `called` are leaf modules that run; `read` those whose parameters are used without calling them; `written` layers that do what a
    function did with them; `shared` maps modules that are called more than once to those that stand for the later calls; `attention`
    was taken apart; `fused` went into other layers. `why_float` has reasons of nodes that could be int8.
    `is_exported` says that torch.export followed it, at one size of inputs.
    """

    called: frozenset[str]
    read: frozenset[str]
    written: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, list[str]] = field(default_factory=dict)
    attention: tuple[str, ...] = ()
    fused: Mapping[str, str] = field(default_factory=dict)
    why_float: Mapping[str, str] = field(default_factory=dict)
    is_exported: bool = False

    def float_name(self, name: str) -> str:
        """The name in the float network of a layer of the graph: attention that was taken apart and later calls have others."""
        for original, calls in self.shared.items():
            if name in calls:
                return original
        name = self.written.get(name, name)
        return next((whole for whole in self.attention if name.startswith(f"{whole}.")), name)


def graph_facts(network: GraphModule) -> GraphFacts:
    """The facts of a prepared or converted network."""
    facts: GraphFacts = network.meta[_FACTS]
    return facts


def keep_facts(network: GraphModule, facts: GraphFacts) -> GraphModule:
    """The network, which knows its facts from now on."""
    network.meta[_FACTS] = facts
    return network


def prepare(network: nn.Module, recipe: Recipe, example: Tensor) -> GraphModule:
    """A copy of a float network as a graph of steps, with observers (static) or rounding (qat) where int8 has codes.

    For qat it is in training mode and on the network's device, otherwise in evaluation mode and on the CPU, where it shares the
    parameters of a network that lies there, too, and must not be changed but by observing. Plain Python that
    asks for the mode (auxiliary heads, stochastic depth) is fixed to evaluation in both. Raises UsageError, with the place in
    the user's code, for a network that cannot be followed, and for names to keep in float that no module has.
    """
    check_names(network, recipe)
    network = with_plain_weights(network)
    release_memory(network.parameters())
    is_trained = recipe.mode == "qat"
    network = copy.deepcopy(network) if is_trained else _static_copy(network)
    traced = trace(network, recipe.keep_float, example).eval()
    facts = _rewrite(traced, recipe, example[:1])  # kernels lay weights out for the size that is recorded here
    if is_trained:
        _round_weights(traced, recipe)
    build = build_activation_rounding if is_trained else build_range_observer
    put_observers(traced, lambda: build(recipe))
    return keep_facts(traced.train(is_trained), facts)


def _round_weights(traced: GraphModule, recipe: Recipe) -> None:
    for node in traced.graph.nodes:
        step = called_module(traced, node)
        if isinstance(step, Product) and "int8" in node.meta:
            step.rounding = build_weight_rounding(recipe)


def _rewrite(traced: GraphModule, recipe: Recipe, example: Tensor) -> GraphFacts:
    """Rewrite a float graph into steps, and mark those that are int8. Returns its facts."""
    is_trained = recipe.mode == "qat"
    called = frozenset(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    read = frozenset(str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr")
    drop_identities(traced, is_trained=is_trained)
    shared = separate_shared_modules(traced)
    read_results_in_place(traced, example)
    write_reshapes(traced)
    written = write_layers(traced)
    separate_read_tensors(traced)
    attention = split_attention(traced, is_trained=is_trained)
    record_shapes(traced, example)
    keep_residuals_float(traced)
    _keep_named_float(traced, recipe.keep_float, shared)
    written |= write_norms(traced)
    write_steps(traced)
    fuse_norms(traced, is_trained=is_trained)
    able = find_able(traced)
    fused = fuse_steps(traced, able)
    mark_int8(traced, able)
    why = {str(node.target): node.meta["why_float"] for node in traced.graph.nodes if "why_float" in node.meta}
    return GraphFacts(called, read, written, shared, tuple(attention), fused, why, EXPORTED in traced.meta)


def _keep_named_float(traced: GraphModule, names: tuple[str, ...], shared: Mapping[str, list[str]]) -> None:
    """Mark the calls of what the recipe keeps in float: by name, and later calls of the same."""
    kept = (*names, *(call for original, calls in shared.items() if is_below(original, names) for call in calls))
    for node in traced.graph.nodes:
        if node.op == "call_module" and is_below(str(node.target), kept):
            node.meta["why_float"] = "kept in float"


def _static_copy(network: Network) -> Network:
    """A copy on the CPU that is not trained; a network that is there already shares its weights with it."""
    is_there = all(parameter.device.type == "cpu" for parameter in network.parameters())
    return copy_sharing_weights(network) if is_there else copy.deepcopy(network).cpu()


def check_names(network: nn.Module, recipe: Recipe) -> None:
    """Raise UsageError for a name in `keep_float` that no module has; the empty name is the whole network."""
    names = [name for name, _ in network.named_modules(remove_duplicate=False)]
    for name in recipe.keep_float:
        if not name:
            raise UsageError("to keep the whole network in float is not to quantize it")
        if name not in names:
            raise UsageError(f"keep in float: the network has no module {name!r}.{did_you_mean(name, names)}")
