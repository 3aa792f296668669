"""Where a graph has codes, and where it is observed."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph.operations import DROPOUTS, called_module, is_moving, shape_of
from dlkit.quantize.graph.recognition import STEPS
from dlkit.quantize.graph.steps import (
    CONVOLUTIONS,
    TRANSPOSED,
    Elementwise,
    GraphStep,
    MaxPool,
    Padding,
    Product,
    channels_first,
)
from dlkit.quantize.int8 import LARGEST_DEPTH

CODES = "_codes"
APART = ("hardswish", "silu", "gelu")  # what ONNX runtimes compute apart from the product


def find_able(traced: GraphModule) -> set[Node]:
    """Nodes that can be computed on codes: products of float tensors, and what comes from these and only moves or combines codes."""
    able: set[Node] = set()
    live: set[Node] = set()  # what depends on the input: a table that is computed from parameters alone gains nothing
    for node in traced.graph.nodes:
        if node.op == "placeholder" or live.intersection(node.all_input_nodes):
            live.add(node)
            if "why_float" not in node.meta and _is_able(traced, node, able):
                able.add(node)
    return able


def _is_able(traced: GraphModule, node: Node, able: set[Node]) -> bool:
    step = called_module(traced, node)
    if isinstance(step, Product):
        return _is_able_product(step, node)
    if not isinstance(step, GraphStep) and not is_moving(traced, node):
        return False
    sources = [source for source in node.all_input_nodes if source in able or shape_of(source) is not None]
    return bool(sources) and all(source in able for source in sources)


def _is_able_product(product: Product, node: Node) -> bool:
    shape, layer = shape_of(node.args[0]), product.layer
    if shape is None or layer.weight.dtype.itemsize < 2:
        return False
    if type(layer) in (*CONVOLUTIONS, *TRANSPOSED) and len(shape) != layer.weight.dim():
        return False
    return bool(channels_first(layer, layer.weight)[0].numel() <= LARGEST_DEPTH)


def mark_int8(traced: GraphModule, able: set[Node]) -> None:
    """Write `meta["int8"]` into every node that int8 layers compute or move codes in: products, and what others of them read."""
    for node in reversed(traced.graph.nodes):
        is_product = isinstance(called_module(traced, node), Product)
        if node in able and (is_product or any("int8" in user.meta for user in node.users)):
            node.meta["int8"] = True
    _let_dropout_hand_on(traced)


def _let_dropout_hand_on(traced: GraphModule) -> None:
    """Let dropout of float tensors, which only training has, hand on codes to those who read codes: they are made in front of it, as in
    the graph without dropout that a file is rebuilt from.
    """
    for node in reversed(list(traced.graph.nodes)):
        readers = [user for user in node.users if "int8" in user.meta]
        if not readers or "int8" in node.meta or not isinstance(called_module(traced, node), DROPOUTS):
            continue
        moving = node
        if len(readers) < len(node.users):
            with traced.graph.inserting_after(node):
                moving = traced.graph.node_copy(node)
            for reader in readers:
                reader.replace_input_with(node, moving)
        moving.meta["int8"] = True


def makes_codes(node: Node) -> bool:
    """Whether an int8 node's result is read as codes; else a product's is float32."""
    return any("int8" in user.meta for user in node.users)


def put_observers(traced: GraphModule, make_observer: Callable[[], nn.Module]) -> None:
    """Observe every tensor that gets a mapping to codes of its own: what int8 layers round, and float tensors that they read."""
    for node in list(traced.graph.nodes):
        if "int8" in node.meta:
            step = called_module(traced, node)
            if isinstance(step, Product) and (len(node.args) > 1 or step.activation in APART):
                step.inner = _watch(step, make_observer(), is_last=len(node.args) == 1)
            if makes_codes(node) and _rounds(traced, node):
                _observe(traced, node, list(node.users), make_observer())
        else:
            readers = [user for user in node.users if "int8" in user.meta and shape_of(node) is not None]
            if readers:
                _observe(traced, node, readers, make_observer())
    traced.graph.lint()
    traced.recompile()


def _watch(product: Product, observer: Any, *, is_last: bool) -> Any:
    """An observer that only watches, of what the activation behind it lets through."""
    observer.is_on = False
    if is_last:
        observer.bounds = product.bounds
    return observer


def _rounds(traced: GraphModule, node: Node) -> bool:
    """Whether a step makes codes of a mapping of its own; others keep that of their input."""
    step = called_module(traced, node)
    if isinstance(step, Elementwise):
        return not step.is_clamp
    return isinstance(step, GraphStep) and not isinstance(step, MaxPool | Padding)


def _observe(traced: GraphModule, node: Node, readers: list[Node], observer: nn.Module) -> None:
    name = f"{CODES}.{label_of(node)}"
    traced.add_submodule(name, observer)
    with traced.graph.inserting_after(node):
        call = traced.graph.call_module(name, (node,))
    call.meta = {"shape": shape_of(node)} | ({"int8": True} if "int8" in node.meta else {})
    for reader in readers:
        reader.replace_input_with(node, call)


def label_of(node: Node) -> str:
    """A name for a node's value without dots: that of its module, or of the node of a function."""
    name = str(node.target).removeprefix(f"{STEPS}.") if node.op == "call_module" else node.name
    return name.replace(".", "_")
