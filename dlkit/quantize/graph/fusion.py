"""From several steps to one that an int8 layer computes at once."""

from typing import Any

from torch import nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph.operations import called_module, shape_of
from dlkit.quantize.graph.recognition import STEPS, replace_by_step
from dlkit.quantize.graph.steps import (
    BATCH_NORMS,
    CONVOLUTIONS,
    Elementwise,
    GraphStep,
    Product,
    Sum,
    can_fold,
    fold,
)


def fuse_norms(traced: GraphModule, *, is_trained: bool) -> None:
    """Put batch norms into the products before them: folded, or in training beside the weights.

    A norm that no product takes becomes a product of its own, with a weight for each channel, where it stands between steps.
    """
    for node in list(traced.graph.nodes):
        norm = called_module(traced, node)
        if type(norm) not in BATCH_NORMS or "why_float" in node.meta:
            continue
        source = node.all_input_nodes[0]
        product = called_module(traced, source)
        if _takes_norm(product, source, norm):
            assert isinstance(product, Product)
            _add_norm(product, norm, is_trained=is_trained)
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)
        elif isinstance(product, GraphStep) and (shape := shape_of(source)) is not None and len(shape) > 2:
            layer = _scaling(norm, len(shape) - 2)
            if can_fold(layer, norm):
                step = Product(layer)
                _add_norm(step, norm, is_trained=is_trained)
                replace_by_step(traced, node, step, (source,))
    traced.recompile()


def _takes_norm(product: nn.Module | None, source: Node, norm: Any) -> bool:
    if not isinstance(product, Product) or len(source.users) != 1 or product.activation != "none":
        return False
    is_image = len(shape_of(source) or ()) == product.layer.weight.dim()  # else the norm counts along another dimension
    return is_image and product.norm is None and can_fold(product.layer, norm)


def _add_norm(product: Product, norm: Any, *, is_trained: bool) -> None:
    if is_trained:
        product.norm = norm
    else:
        product.layer = fold(product.layer, norm)


def _scaling(norm: Any, num_dimensions: int) -> nn.Module:
    """A convolution that multiplies each channel by 1, for a norm to be folded into."""
    channels = norm.num_features
    layer = CONVOLUTIONS[num_dimensions - 1](channels, channels, 1, groups=channels, bias=False)
    nn.init.ones_(layer.weight)
    return layer.requires_grad_(False).eval()


def fuse_steps(traced: GraphModule, able: set[Node]) -> dict[str, str]:
    """Let products add other tensors and take in activations, and sums their ReLU. `able` are nodes that can be codes.

    Returns the names of modules and nodes that were taken in, with what took them.
    """
    fused: dict[str, str] = {}
    for node in list(traced.graph.nodes):
        step = called_module(traced, node) if node in able else None
        if isinstance(step, Sum):
            _fuse_sum(traced, node, able, fused)
    for node in list(traced.graph.nodes):
        step = called_module(traced, node) if node in able else None
        source = node.all_input_nodes[0] if isinstance(step, Elementwise) else None
        if source is None or len(source.users) != 1 or source not in able:
            continue
        assert isinstance(step, Elementwise)
        before = called_module(traced, source)
        is_sum = isinstance(before, Sum) and step.activation == "relu"
        if (is_sum or isinstance(before, Product)) and before.activation == "none" != step.activation:  # type: ignore[union-attr]
            before.activation, before.bounds = step.activation, step.bounds  # type: ignore[union-attr]
            fused[_label(node)] = str(source.target)
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)
    traced.recompile()
    return fused


def _fuse_sum(traced: GraphModule, node: Node, able: set[Node], fused: dict[str, str]) -> None:
    """Let the later of the products that are added add the other tensor."""
    if len(node.all_input_nodes) != 2:
        return
    order = {other: place for place, other in enumerate(traced.graph.nodes)}
    for source in sorted(node.all_input_nodes, key=lambda one: -order[one]):
        other = next(one for one in node.all_input_nodes if one is not source)
        product = called_module(traced, source)
        is_plain = (
            isinstance(product, Product) and product.activation == "none" and len(source.users) == len(source.args) == 1
        )
        if is_plain and source in able and type(product.layer) is nn.Conv2d and shape_of(source) == shape_of(other):  # type: ignore[union-attr]
            with traced.graph.inserting_before(node):
                call = traced.graph.create_node(
                    "call_module", str(source.target), (source.args[0], other), name=source.name
                )
            call.meta = dict(source.meta)
            fused[_label(node)] = str(source.target)
            node.replace_all_uses_with(call)
            traced.graph.erase_node(node)
            traced.graph.erase_node(source)
            able.add(call)
            return


def _label(node: Node) -> str:
    """A module's name, or that of the node of a function."""
    return str(node.target).removeprefix(f"{STEPS}.")
