"""Rewrites of a float graph before its operations are named. Each leaves what the network computes as it is.

They depend on the graph alone, so that a network that is rebuilt for a file becomes the same again.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph.operations import (
    DROPOUTS,
    argument,
    attribute_of,
    called_module,
    drop_unread,
    operation,
    shape_of,
    works_in_place,
    write_out_of_place,
)
from dlkit.quantize.graph.tracing import find_memory

# where functions are told whether they train, and what it is called
_TRAINING = {"stochastic_depth": (3, "training"), "drop_path": (2, "training")}
_TRAINING |= dict.fromkeys(
    ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"), (2, "training")
)
READ = "_read"
SHARED_MEMORY = "it reads or overwrites memory that others read"
_CONVOLUTIONS: dict[int, type[nn.modules.conv._ConvNd]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)  # they always make a new tensor
_NORMS: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_NORM_TENSORS = ("running_mean", "running_var", "weight", "bias")
_CONVOLUTION_OPTIONS = (("stride", 3, 1), ("padding", 4, 0), ("dilation", 5, 1), ("groups", 6, 1))


def drop_identities(traced: GraphModule, *, is_trained: bool) -> None:
    """Take out what does nothing: identities, and dropout in evaluation mode, such as torchvision's stochastic depth."""
    for node in list(traced.graph.nodes):
        if _does_nothing(traced, node, is_trained=is_trained):
            node.replace_all_uses_with(node.all_input_nodes[0])
            traced.graph.erase_node(node)
    traced.recompile()


def _does_nothing(traced: GraphModule, node: Node, *, is_trained: bool) -> bool:
    module = called_module(traced, node)
    if module is not None:
        is_dropout = isinstance(module, DROPOUTS) and not is_trained
        return type(module) is nn.Identity or is_dropout
    name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
    return name in _TRAINING and argument(node, *_TRAINING[name], True) is False


def read_results_in_place(traced: GraphModule, example: Tensor) -> None:
    """Let operations that overwrite a tensor make a new one, which all later readers read: nothing depends on shared memory.

    Where the same memory is read later as another tensor, too (a view, or the whole of one), the operation stays as it is, and
    all that reads this memory stays in float.
    """
    memory: dict[Node, set[int]] | None = None
    kept: set[int] = set()
    fresh = {node for node in traced.graph.nodes if isinstance(called_module(traced, node), _WEIGHTED)}
    order = {node: place for place, node in enumerate(traced.graph.nodes)}
    for node in [node for node in order if works_in_place(traced, node)]:
        source = argument(node, 0, "input")
        if source in fresh and len(source.users) == 1:  # nearly all: a layer, and an activation behind it
            fresh.add(node)
            write_out_of_place(traced, node)
            continue
        memory = find_memory(traced, example) if memory is None else memory
        if not memory.get(source):  # a size, which nothing overwrites
            write_out_of_place(traced, node)
            continue
        if memory[source] & kept:
            continue
        others = [other for other in memory if memory[other] & memory[source] and other not in (source, node)]
        seen = [other for other in others if order[other] < order[node]]
        if any(order[user] > order[node] for other in seen for user in other.users) or _is_owned(source, others):
            _keep_memory(traced, [source, node, *others], memory)
            kept |= memory[source]
            continue
        for user in list(source.users):
            if order[user] > order[node]:
                user.replace_input_with(source, node)
        write_out_of_place(traced, node)
    traced.recompile()


def _is_owned(source: Node, others: list[Node]) -> bool:
    """Whether the memory is a parameter's or buffer's, which the next run reads."""
    return any(node.op == "get_attr" for node in (source, *others))


def _keep_memory(traced: GraphModule, nodes: list[Node], memory: dict[Node, set[int]]) -> None:
    """Leave these in float, and what reads them; whoever makes the memory lays it out as views of it need it."""
    makers = {node for node in nodes if not any(memory.get(one, set()) & memory[node] for one in node.all_input_nodes)}
    for one in {*nodes, *(user for node in nodes for user in node.users)} - makers:
        one.meta["why_float"] = SHARED_MEMORY
    for node in makers:
        if node.op not in ("placeholder", "get_attr"):
            with traced.graph.inserting_after(node):
                plain = traced.graph.call_method("contiguous", (node,))
            plain.meta["why_float"] = SHARED_MEMORY
            for user in node.users.keys() - {plain}:
                user.replace_input_with(node, plain)


def write_reshapes(traced: GraphModule) -> None:
    """Reshape instead of `view`: what int8 kernels make lies channels last, which a view cannot always follow."""
    for node in traced.graph.nodes:
        is_view = node.op == "call_method" and node.target == "view"
        if is_view and not any(isinstance(value, torch.dtype) for value in (*node.args, *node.kwargs.values())):
            node.target, node.args, node.kwargs = "reshape", (node.args[0], *node.args[1:], *node.kwargs.values()), {}
    traced.recompile()


def write_layers(traced: GraphModule) -> dict[str, str]:
    """Turn calls of `F.linear` and `F.conv2d` and the like with parameters into layers. Returns their names by the parameter's owner.

    A layer whose weight is read without calling it is called so.
    """
    written: dict[str, str] = {}
    for node in list(traced.graph.nodes):
        weight: Any = argument(node, 1, "weight") if operation(node) in ("linear", "conv") else None
        bias: Any = argument(node, 2, "bias") if weight is not None else None
        if not _is_parameter(weight) or not (bias is None or _is_parameter(bias)):
            continue
        layer = _layer(traced, node, weight, bias)
        if layer is not None:
            _call_instead(traced, node, layer, weight, written)
    drop_unread(traced)
    return written


def write_norms(traced: GraphModule) -> dict[str, str]:
    """The same for `F.batch_norm` with statistics of a layer, as norms of a class of their own call it; after shapes are known."""
    written: dict[str, str] = {}
    for node in list(traced.graph.nodes):
        if (
            operation(node) != "batch_norm"
            or "why_float" in node.meta
            or argument(node, 5, "training", False) is not False
        ):
            continue
        tensors = {key: argument(node, place, key) for place, key in enumerate(_NORM_TENSORS, start=1)}
        rank = len(shape_of(node) or ())
        if rank in _NORMS and all(map(_is_parameter, tensors.values())):
            norm = _norm(traced, tensors, _NORMS[rank], eps=argument(node, 7, "eps", 1e-5))
            _call_instead(traced, node, norm, tensors["running_var"], written)
    drop_unread(traced)
    return written


def _norm(traced: GraphModule, tensors: dict[str, Any], kind: Any, *, eps: float) -> nn.Module:
    values = {key: attribute_of(traced, node) for key, node in tensors.items()}
    norm = kind(len(values["running_var"]), eps=eps, device="meta")
    for key, value in values.items():
        setattr(
            norm,
            key,
            nn.Parameter(value.detach(), requires_grad=value.requires_grad) if key in norm._parameters else value,
        )
    norm.num_batches_tracked = torch.tensor(0)
    return norm.train(traced.training)  # type: ignore[no-any-return]


def _call_instead(traced: GraphModule, node: Node, layer: nn.Module, tensor: Node, written: dict[str, str]) -> None:
    """Call a layer instead of a function, under the name of the owner of this tensor."""
    owner = str(tensor.target).rpartition(".")[0]
    name = _free_name(traced, f"{owner}.called".lstrip("."))
    traced.add_submodule(name, layer)
    written[name] = owner
    with traced.graph.inserting_before(node):
        call = traced.graph.call_module(name, (argument(node, 0, "input"),))
        call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    traced.graph.erase_node(node)


def _is_parameter(node: Any) -> bool:
    return isinstance(node, Node) and node.op == "get_attr"


def _layer(traced: GraphModule, node: Node, weight: Node, bias: Node | None) -> nn.Module | None:
    values = attribute_of(traced, weight)
    options: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    build: Callable[..., Any] = nn.Linear
    sizes: tuple[Any, ...] = (values.shape[-1], len(values))
    if operation(node) == "conv":
        given = {name: argument(node, place, name, default) for name, place, default in _CONVOLUTION_OPTIONS}
        if not isinstance(given["groups"], int) or any(isinstance(value, Node) for value in given.values()):
            return None
        build = _CONVOLUTIONS[values.dim()]
        sizes = (values.shape[1] * given["groups"], len(values), tuple(values.shape[2:]))
        options |= {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    layer = build(*sizes, **options)
    layer.weight = nn.Parameter(values.detach(), requires_grad=values.requires_grad)
    if bias is not None:
        values = attribute_of(traced, bias)
        layer.bias = nn.Parameter(values.detach(), requires_grad=values.requires_grad)
    return layer.train(traced.training)  # type: ignore[no-any-return]


def _free_name(traced: GraphModule, name: str) -> str:
    names = {other for other, _ in traced.named_modules()}
    number = 1
    while (found := name if number == 1 else f"{name}_{number}") in names:
        number += 1
    return found


def separate_read_tensors(traced: GraphModule) -> None:
    """Give parameters of layers that are called, too, a place of their own: what stands for the layer has them elsewhere or not at all."""
    called = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    for node in traced.graph.nodes:
        target = str(node.target)
        if node.op != "get_attr" or target.rpartition(".")[0] not in called:
            continue
        if not hasattr(traced, READ):
            traced.add_submodule(READ, nn.Module())
        name, holder, value = target.replace(".", "_"), traced.get_submodule(READ), attribute_of(traced, node)
        if isinstance(value, nn.Parameter):
            holder.register_parameter(name, value)
        else:
            holder.register_buffer(name, value)
        node.target = f"{READ}.{name}"
    traced.recompile()


def separate_shared_modules(traced: GraphModule) -> dict[str, list[str]]:
    """Give every call of a module that is called more than once a module of its own, with the same parameters.

    An int8 layer has one output scale, and folding two batch norms into one convolution would be wrong. Returns the names of
    the added modules by the name of the one that they stand for.
    """
    seen: set[int] = set()
    added: dict[str, list[str]] = {}
    for node in traced.graph.nodes:
        module = called_module(traced, node)
        if module is None or not type(module).__module__.startswith("torch.nn"):
            continue
        if id(module) in seen:
            target = str(node.target)
            names = added.setdefault(target, [])
            names.append(_free_name(traced, f"{target}_call{len(names) + 2}"))
            tied: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
            traced.add_submodule(names[-1], copy.deepcopy(module, tied))
            node.target = names[-1]
        seen.add(id(module))
    traced.recompile()
    return added
