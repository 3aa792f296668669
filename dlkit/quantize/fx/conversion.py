"""Preparing and converting by torch.fx: static quantization and quantization-aware training."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx
from torch.fx import GraphModule

from dlkit.core.release_memory import release_memory
from dlkit.errors import UsageError, first_line
from dlkit.quantize.fx.clamps import fold_clamps
from dlkit.quantize.fx.engine import bind_to_engine, forget_networks, no_deprecations, quantized_engine
from dlkit.quantize.fx.graph_rewrites import (
    LEFT_IN_FLOAT,
    drop_identities,
    fold_norms,
    keep_call_float,
    keep_modules_float,
    keep_residuals_float,
    separate_shared_modules,
    split_attention,
    unify_relus,
)
from dlkit.quantize.fx.kernel_faults import faulty_calls, faulty_modules, straighten_clamps, write_out_options
from dlkit.quantize.fx.qconfigs import qconfig_mapping
from dlkit.quantize.fx.tracing import trace
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.sharing import Network, copy_sharing_weights
from dlkit.suggestions import did_you_mean

# the classes of int8 layers, for those who take converted networks apart
INT8 = torch.ao.nn.quantized
FUSED_INT8 = torch.ao.nn.intrinsic.quantized
DYNAMIC_INT8 = torch.ao.nn.quantized.dynamic
_FACTS = "dlkit_facts"


@dataclass(frozen=True)
class GraphFacts:
    """What was known of a float network's graph before it was changed, by names of modules.

    `called` are leaf modules that run; `read` those whose parameters are used without calling them; `shared` maps modules that
    are called more than once to those that stand for the later calls; `attention` was taken apart.
    """

    called: frozenset[str]
    read: frozenset[str]
    shared: Mapping[str, list[str]]
    attention: tuple[str, ...]


def graph_facts(network: GraphModule) -> GraphFacts:
    """The facts of a prepared or converted network of ours."""
    facts: GraphFacts = network.meta[_FACTS]
    return facts


def prepare(network: nn.Module, recipe: Recipe, example: Tensor) -> GraphModule:
    """A copy of a float network, fused and with observers (static) or fake quantization (qat) put in.

    For qat it is in training mode and on the network's device, otherwise in evaluation mode and on the CPU, where it shares the
    parameters of a network that lies there, too, and must not be changed but by observing. Plain Python that
    asks for the mode (auxiliary heads, stochastic depth) is fixed to evaluation in both. Raises UsageError, with the place in
    the user's code, for a network that torch.fx cannot follow, and for names to keep in float that no module has.
    """
    check_names(network, recipe)
    release_memory(network.parameters())
    network = _static_copy(network) if recipe.mode == "static" else copy.deepcopy(network)
    traced = trace(network, recipe.keep_float)
    facts, also_float = _rewrite(traced, recipe)
    custom = PrepareCustomConfig()
    custom.set_non_traceable_module_names(list(recipe.keep_float))
    custom.set_non_traceable_module_classes(list(LEFT_IN_FLOAT))
    put_observers_in = prepare_qat_fx if recipe.mode == "qat" else prepare_fx
    with quantized_engine(recipe.backend), no_deprecations(), _in_words("observe"):
        mapping = qconfig_mapping(recipe, also_float)
        prepared = put_observers_in(traced.train(recipe.mode == "qat"), mapping, (example,), custom)
    forget_networks()
    prepared.meta[_FACTS] = facts
    if recipe.reduce != "activations":  # their 7 bits end where the clamp does, but kernels saturate at the end of 8
        fold_clamps(prepared)
    return prepared


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


def _rewrite(traced: GraphModule, recipe: Recipe) -> tuple[GraphFacts, list[str]]:
    """Rewrite a float graph such that torch.ao quantizes it soundly. Returns its facts, and names of modules to leave in float."""
    called = frozenset(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    read = frozenset(str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr")
    drop_identities(traced)
    unify_relus(traced)
    shared = separate_shared_modules(traced)
    if recipe.mode == "static":
        fold_norms(traced.eval())
    facts = GraphFacts(called, read, shared, tuple(split_attention(traced)))
    write_out_options(traced)
    also_float = keep_residuals_float(traced)
    for node in faulty_calls(traced, recipe.backend):
        keep_call_float(traced, node)
    also_float += [*_calls_of(recipe.keep_float, shared), *faulty_modules(traced, recipe.backend)]
    keep_modules_float(traced, [*recipe.keep_float, *also_float])
    traced.recompile()
    return facts, also_float


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """What torch.ao raises for networks that it was not made for, as a UsageError."""
    try:
        yield
    except Exception as error:  # asserts, missing attributes and keys, whatever comes
        raise UsageError(
            f"torch.ao cannot {what} this network for int8: {type(error).__name__}: {first_line(error, 200)}. Keep the part in "
            "float that is out of the ordinary: --keep-float NAME; or quantize dynamically: --dynamic"
        ) from error


def _calls_of(names: tuple[str, ...], added: dict[str, list[str]]) -> list[str]:
    """Names of the modules that stand for later calls of those that are kept in float."""
    return [name for original, calls in added.items() for name in calls if is_below(original, names)]


def is_below(name: str, kept: tuple[str, ...]) -> bool:
    """Whether the module is one of those kept, or lies in one."""
    return any(name == other or name.startswith(f"{other}.") for other in kept)


def convert(prepared: GraphModule, recipe: Recipe) -> GraphModule:
    """The int8 network of one that was calibrated or trained, on the CPU; `prepared` is left as it was.

    Layers that stay in float share their parameters with it, if it is on the CPU.
    """
    release_memory(prepared.parameters())
    with quantized_engine(recipe.backend), no_deprecations(), _in_words("convert"):
        converted = convert_fx(_static_copy(prepared).cpu().eval())
    forget_networks()
    converted.meta[_FACTS] = graph_facts(prepared)
    if recipe.backend == "qnnpack":
        straighten_clamps(converted)
    bind_to_engine(converted, recipe.backend)
    return converted
