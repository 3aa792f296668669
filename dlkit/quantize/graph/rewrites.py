"""Rewrites of a float graph before its operations are named. Each leaves what the network computes as it is.

They depend on the graph alone, so that a network that is rebuilt for a file becomes the same again.
"""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph.operations import argument, called_module, is_view, operation, works_in_place

_IDENTITIES = frozenset({"stochastic_depth", "drop_path", "dropout", "feature_dropout", "alpha_dropout"})
_CONVOLUTIONS: dict[int, type[nn.modules.conv._ConvNd]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
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
        is_dropout = isinstance(module, nn.modules.dropout._DropoutNd) and not is_trained
        return type(module) is nn.Identity or is_dropout
    if node.op != "call_function" or getattr(node.target, "__name__", "") not in _IDENTITIES:
        return False
    return False in (*node.args, *node.kwargs.values())


def read_results_in_place(traced: GraphModule) -> None:
    """Let later readers of what an operation overwrites read its result, so that nothing depends on the memory being shared.

    Where that memory belongs to another tensor, too (a view), the operation stays as it is and in float.
    """
    order = {node: place for place, node in enumerate(traced.graph.nodes)}
    for node in traced.graph.nodes:
        if not works_in_place(traced, node) or not node.all_input_nodes:
            continue
        source = node.all_input_nodes[0]
        if is_view(source):
            node.meta["why_float"] = "it overwrites a part of another tensor"
            continue
        for user in list(source.users):
            if order[user] > order[node]:
                user.replace_input_with(source, node)
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
        if layer is None:
            continue
        owner = str(weight.target).rpartition(".")[0]
        name = _free_name(traced, f"{owner}.called".lstrip("."))
        traced.add_submodule(name, layer)
        written[name] = owner
        with traced.graph.inserting_before(node):
            call = traced.graph.call_module(name, (argument(node, 0, "input"),))
            call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return written


def _is_parameter(node: Any) -> bool:
    return isinstance(node, Node) and node.op == "get_attr"


def _layer(traced: GraphModule, node: Node, weight: Node, bias: Node | None) -> nn.Module | None:
    values = _attribute(traced, weight)
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
        values = _attribute(traced, bias)
        layer.bias = nn.Parameter(values.detach(), requires_grad=values.requires_grad)
    return layer.train(traced.training)  # type: ignore[no-any-return]


def _attribute(traced: GraphModule, node: Node) -> Tensor:
    owner, _, name = str(node.target).rpartition(".")
    found: Tensor = getattr(traced.get_submodule(owner), name)
    return found


def _free_name(traced: GraphModule, name: str) -> str:
    names = {other for other, _ in traced.named_modules()}
    number = 1
    while (found := name if number == 1 else f"{name}_{number}") in names:
        number += 1
    return found


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
