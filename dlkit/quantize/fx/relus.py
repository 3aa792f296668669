"""The many ways to write a ReLU, as the one that torch.ao joins to the layer before it."""

import torch
import torch.nn.functional as F
from torch.fx import GraphModule, Node

_FUNCTIONS = frozenset({torch.relu, torch.relu_, F.relu_})
_METHODS = frozenset({"relu", "relu_"})
_IN_PLACE = frozenset({torch.relu_, F.relu_, "relu_"})


def unify_relus(traced: GraphModule) -> None:
    """Write `torch.relu(x)`, `x.relu()` and their forms in place as `F.relu(x)`, which torch.ao knows.

    It leaves the others in float, or runs them as kernels of their own. A form in place stays where somebody else sees
    what it changes: its input has another reader, or may be a view of another tensor.
    """
    for node in list(traced.graph.nodes):
        if _is_relu(node) and not (node.target in _IN_PLACE and _is_seen_by_others(node)):
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.call_function(F.relu, node.args, node.kwargs))
            traced.graph.erase_node(node)
    traced.recompile()


def _is_relu(node: Node) -> bool:
    if node.op == "call_method":
        return node.target in _METHODS
    return node.op == "call_function" and node.target in _FUNCTIONS


def _is_seen_by_others(node: Node) -> bool:
    source = node.all_input_nodes[0]
    makes_new = source.op == "call_module" or getattr(source.target, "__name__", "") in ("add", "iadd", "mul", "cat")
    return len(source.users) > 1 or not makes_new
