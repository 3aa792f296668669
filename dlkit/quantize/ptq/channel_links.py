"""Places where channels can be scaled down on one side and up on the other without changing what a network computes.

Between a layer and those that read it, each channel may be divided by a factor and the weights that read it multiplied by
the same one, as long as everything in between is positive homogeneous: f(a x) = a f(x) for a > 0. ReLU, max and average
pooling are; hard swish, GELU and sigmoid are not. ReLU6 is below its cap, so a link through it says so.

Batch norms are not folded for this: scaling their weight and bias scales their output, so that structure and names of the
network stay, and a file of it is rebuilt as ever.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph import called_module, trace

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LAYERS = (*_CONVOLUTIONS, nn.Linear)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ROW_NORMS = (nn.LayerNorm, nn.RMSNorm)
_ANYWHERE = (nn.ReLU, nn.Identity, nn.modules.dropout._DropoutNd, F.relu, torch.relu, F.dropout)
_ON_MAPS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d),
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, nn.Flatten, torch.flatten, nn.Upsample, F.interpolate),
)
_CAPPED = (nn.ReLU6, F.relu6)
CAP = 6.0


@dataclass(frozen=True)
class Link:
    """Channels that can be scaled, by names of modules.

    `source` is the module whose outputs are scaled by its own weight and bias: a layer, or the norm behind it. `layer` is
    the layer whose rows are scaled by this once norms are folded; None where the source is no batch norm of a layer.
    `readers` are all layers that read the channels. `is_capped` says that the channels go through ReLU6.
    """

    source: str
    layer: str | None
    readers: tuple[str, ...]
    is_capped: bool = False


def find_links(network: nn.Module, example: Tensor | None = None, keep_float: Sequence[str] = ()) -> list[Link]:
    """All links of a network, in the order of its graph, outside of what is kept in float.

    Raises UsageError for a network that cannot be followed (see `trace`).
    """
    graph = trace(network, keep_float, example)
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    users = Counter(id(tensor) for module in network.modules() for tensor in module._parameters.values())
    is_own = {
        name: calls[name] == 1
        and all(users[id(tensor)] == 1 for tensor in network.get_submodule(name).parameters(recurse=False))
        for name in calls
    }
    links = (_link_from(graph, node) for node in graph.graph.nodes if node.op == "call_module")
    return [
        link
        for link in links
        if link is not None and all(is_own[name] for name in (link.source, link.layer or link.source, *link.readers))
    ]


def _link_from(graph: GraphModule, node: Node) -> Link | None:
    """The link that begins at a node, if its readers are all layers and its outputs can be scaled."""
    module = graph.get_submodule(str(node.target))
    if isinstance(module, _LAYERS):
        if any(isinstance(called_module(graph, user), _BATCH_NORMS) for user in node.users):
            return None  # the norm is the source
        layer: str | None = str(node.target)
    elif isinstance(module, _BATCH_NORMS) and module.affine and module.running_var is not None:
        layer = _layer_before(graph, node)
    elif isinstance(module, _ROW_NORMS) and module.weight is not None and module.weight.ndim == 1:
        layer = None
    else:
        return None
    has_maps = isinstance(module, (*_CONVOLUTIONS, nn.BatchNorm2d, nn.BatchNorm3d))
    path = list(_follow(graph, node, has_maps=has_maps))
    readers = [kind for kind in path if isinstance(kind, str)]
    if None in path or not readers or len(set(readers)) != len(readers):
        return None
    return Link(str(node.target), layer, tuple(readers), is_capped=CAP in path)


def _layer_before(graph: GraphModule, norm: Node) -> str | None:
    before = norm.all_input_nodes[0]
    is_layer = isinstance(called_module(graph, before), _LAYERS) and len(before.users) == 1
    return str(before.target) if is_layer else None


def _follow(graph: GraphModule, node: Node, *, has_maps: bool) -> Iterator[str | float | None]:
    """What lies behind a node: names of layers, 6.0 for a ReLU6, and None for anything through which nothing can be scaled."""
    if not node.users:
        yield None
    for user in node.users:
        module = called_module(graph, user)
        if isinstance(module, _LAYERS) or _is_self_attention(module, user):
            yield str(user.target)
        elif _is_one_of(graph, user, _CAPPED):
            yield CAP
            yield from _follow(graph, user, has_maps=has_maps)
        elif _is_one_of(graph, user, _ANYWHERE) or (
            has_maps and _is_one_of(graph, user, _ON_MAPS) and _keeps_rows(graph, user)
        ):
            yield from _follow(graph, user, has_maps=has_maps)
        else:
            yield None


def _is_one_of(graph: GraphModule, node: Node, kinds: tuple[Any, ...]) -> bool:
    module = called_module(graph, node)
    if module is not None:
        return isinstance(module, tuple(kind for kind in kinds if isinstance(kind, type)))
    return node.op == "call_function" and node.target in kinds


def _keeps_rows(graph: GraphModule, node: Node) -> bool:
    """Whether a flatten keeps the samples apart, so that each channel becomes a run of features."""
    module = called_module(graph, node)
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    return node.target is not torch.flatten or (list(node.args[1:]) == [1] and not node.kwargs)


def _is_self_attention(module: nn.Module | None, node: Node) -> bool:
    """Whether queries, keys and values all come from one input, and its projections are kept in one matrix."""
    if not isinstance(module, nn.MultiheadAttention) or module.in_proj_weight is None:
        return False
    return len(node.all_input_nodes) == 1 and len(node.args) >= 3
