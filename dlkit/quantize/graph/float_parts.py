"""What stays in float because int8 would spoil it."""

from torch import nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph.operations import called_module, operation

STREAM = "in a residual stream that ends in a norm, which loses too much in 8 bits"
_ROW_NORMS = (nn.LayerNorm, nn.RMSNorm)
_ARITHMETIC = frozenset({"add", "sub", "mul", "cat"})


def keep_residuals_float(traced: GraphModule) -> None:
    """Leave in float what is summed up on the way to a layer norm.

    A transformer's residual stream has a few channels or tokens that are far larger than the rest; in 8 bits the rest is lost,
    and the norm then blows up what is left (ViT-B/16: 81 % to 25 %; with an all-zero class token even NaN).
    """
    found: set[Node] = set()
    pending = [
        source for node in traced.graph.nodes if _is_row_norm(traced, node) for source in node.all_input_nodes[:1]
    ]
    while pending:
        node = pending.pop()
        if node in found or node.op in ("placeholder", "get_attr") or _has_weights(traced, node):
            continue
        found.add(node)
        node.meta["why_float"] = STREAM
        # what else goes into a reshape or a pooling is sizes
        pending.extend(node.all_input_nodes if operation(node) in _ARITHMETIC else node.all_input_nodes[:1])


def _is_row_norm(traced: GraphModule, node: Node) -> bool:
    return isinstance(called_module(traced, node), _ROW_NORMS) or operation(node) == "layer_norm"


def _has_weights(traced: GraphModule, node: Node) -> bool:
    module = called_module(traced, node)
    return module is not None and (
        next(module.parameters(), None) is not None or not type(module).__module__.startswith("torch.nn")
    )


def is_below(name: str, kept: tuple[str, ...]) -> bool:
    """Whether the module is one of those kept, or lies in one."""
    return any(name == other or name.startswith(f"{other}.") for other in kept)
