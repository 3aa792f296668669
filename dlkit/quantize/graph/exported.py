"""Networks that torch.fx cannot follow, followed by torch.export: at the sizes of one example, with a free batch.

torch.export writes every operation out, down to those of aten. Here they get back the forms that a torch.fx graph has: layers are
called by the names that they have in the network, functions are those of torch.
"""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.graph import CodeGen
from torch.utils._pytree import tree_unflatten

from dlkit.quantize.graph.operations import argument, drop_unread

EXPORTED = "dlkit_exported"  # in a graph's meta: it takes inputs of one size only
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
_SAME_NAME = (
    "conv1d conv2d conv3d linear relu relu_ relu6 hardtanh hardtanh_ hardswish hardsigmoid silu gelu elu elu_ leaky_relu leaky_relu_ mish "
    "softplus pixel_shuffle dropout max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d"
)
_OF_TORCH = (
    "add mul sub div cat layer_norm sigmoid tanh clamp clamp_ exp mean flatten permute transpose squeeze unsqueeze chunk split movedim "
    "roll flip reshape"
)
_FUNCTIONS: dict[str, Any] = {
    **{name: getattr(F, name) for name in _SAME_NAME.split()},
    **{name: getattr(torch, name) for name in _OF_TORCH.split()},
    **{
        "add_": operator.iadd,
        "mul_": operator.imul,
        "sub_": operator.isub,
        "div_": operator.itruediv,
        "view": torch.reshape,
    },
}


def trace_exported(network: nn.Module, example: Tensor) -> GraphModule:
    """The graph of a network in evaluation mode, by torch.export, which raises errors of many kinds where it cannot follow either."""
    inputs = (torch.cat([example, example]),)  # a batch of one would be taken for a fixed size
    free_batch = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(network, inputs, dynamic_shapes=free_batch)
    graph = program.module(check_guards=False)
    assert isinstance(graph, GraphModule)
    _inline_contexts(graph)
    _call_layers(graph, network)
    for node in graph.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten":
            node.target = _FUNCTIONS.get(node.target._schema.name.partition("::")[2], node.target)
    drop_unread(graph)
    output = graph.graph.output_node()
    codegen: Any = (
        graph.graph._codegen
    )  # torch.export's own puts a list of all outputs into the form that the network gave it
    output.args = (tree_unflatten(output.args[0], codegen.pytree_info.out_spec),)  # type: ignore[arg-type]
    graph.graph.set_codegen(CodeGen())
    found = GraphModule(graph, graph.graph)  # one that has modes
    found.meta[EXPORTED] = True
    return found


# what a network computes without autocast, or without gradients: the part's place among the arguments, what the part is given behind it
_CONTEXTS = {"wrap_with_autocast": 4, "wrap_with_set_grad_enabled": 1}


def _inline_contexts(graph: GraphModule) -> None:
    """Write out what stands in a graph of its own for a context that changes nothing here: inference, in float32."""
    for node in list(graph.graph.nodes):
        place = _CONTEXTS.get(getattr(node.target, "__name__", ""))
        if place is None:
            continue
        if node.target is not torch.ops.higher_order.wrap_with_set_grad_enabled and node.args[2]:
            raise NotImplementedError("a part of it asks for half precision")
        arguments: Any = node.args[place:]
        inner: Any = graph.get_submodule(str(arguments[0].target)).graph
        given = dict(zip(inner.find_nodes(op="placeholder"), arguments[1:], strict=True))
        with graph.graph.inserting_before(node):
            values: Any = graph.graph.graph_copy(inner, given)
        for user in list(node.users):  # each takes one of the part's values
            user.replace_all_uses_with(values[user.args[1]])
            graph.graph.erase_node(user)
        graph.graph.erase_node(node)


def _call_layers(graph: GraphModule, network: nn.Module) -> None:
    """Call a layer where its operation is written out with its weight."""
    for node in list(graph.graph.nodes):
        weight = next((source for source in node.all_input_nodes if str(source.target).endswith(".weight")), None)
        if weight is None or weight.op != "get_attr":
            continue
        name = str(weight.target).removesuffix(".weight")
        layer = network.get_submodule(name)
        is_padded = getattr(layer, "padding_mode", "zeros") != "zeros"  # the padding is an operation of its own
        if isinstance(layer, _LAYERS) and type(layer).__module__.startswith("torch.nn") and not is_padded:
            with graph.graph.inserting_before(node):
                call = graph.graph.call_module(name, (argument(node, 0, "input"),))
            node.replace_all_uses_with(call)
            graph.graph.erase_node(node)
    names = {str(node.target) for node in graph.graph.nodes if node.op == "call_module"}
    _drop_reads(graph, names)
    for name in names:
        graph.set_submodule(name, network.get_submodule(name))


def _drop_reads(graph: GraphModule, names: set[str]) -> None:
    """Take out the nodes that read parameters of layers, which are called now."""
    for node in list(graph.graph.nodes):
        if node.op == "get_attr" and str(node.target).rpartition(".")[0] in names and not node.users:
            graph.graph.erase_node(node)
