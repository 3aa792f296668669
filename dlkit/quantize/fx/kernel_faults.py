"""Layers whose int8 kernels in torch 2.15 are missing or wrong, found by running each against float (tests/quantize/test_layers.py).

What can be said in another way is rewritten; the rest stays in float. None of this depends on the values that a network sees.
"""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.ao.nn.quantized import ReLU6
from torch.fx import GraphModule, Node

from dlkit.choices import Backend

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
TRANSPOSED: tuple[Any, ...] = (
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)
_FLOAT_FUNCTIONS = frozenset({F.layer_norm, torch.matmul, operator.matmul, torch.stack})
_BINARY = frozenset({operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul})
_SIZE_ARITHMETIC = _BINARY | {operator.getitem, operator.sub, operator.floordiv, operator.truediv, operator.mod}
_POOL_FUNCTIONS = frozenset({F.avg_pool1d, F.avg_pool2d, F.avg_pool3d})
_CONVOLUTION_FUNCTIONS = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
_CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_LISTS = {"stride": 1, "padding": 0, "dilation": 1}
_CLAMPS = (nn.ReLU6, nn.Hardtanh, ReLU6)
_CLAMP_FUNCTIONS = frozenset({F.relu6, F.hardtanh, torch.clamp, torch.clip, "clamp", "clamp_", "clip"})


def float_operations(backend: Backend) -> tuple[Any, ...]:
    """Layers with weights that stay in float whatever their options are.

    Transposed convolutions are wrong on onednn, and so on x86, unless in and out channels are as many, and partly on fbgemm.
    qnnpack packs weights of three dimensions but cannot give them back, so that they could not be stored.
    """
    return (nn.Conv3d, F.conv3d) if backend == "qnnpack" else TRANSPOSED


def write_out_options(traced: GraphModule) -> None:
    """Numbers in place of "same" and "valid", which the int8 kernels do not know, and lists in place of single numbers."""
    for node in traced.graph.nodes:
        if node.op == "call_function" and node.target in _CONVOLUTION_FUNCTIONS:
            _write_out_call(node, _CONVOLUTION_FUNCTIONS[node.target])
    for module in traced.modules():
        if isinstance(module, _CONVOLUTIONS) and isinstance(module.padding, str):
            sides = module._reversed_padding_repeated_twice[::-1]  # both sides of every dimension, 0 for "valid"
            if sides[::2] == sides[1::2]:
                module.padding = tuple(sides[::2])


def _write_out_call(node: Node, num_dimensions: int) -> None:
    """All arguments of a convolution in their places, defaults too: torch.ao hands them on as they are."""
    given = dict(zip(_CONVOLUTION_ARGUMENTS, node.args, strict=False)) | node.kwargs
    lists = {name: _as_list(given.get(name, default), num_dimensions) for name, default in _LISTS.items()}
    node.args = (given["input"], given["weight"], given.get("bias"), *lists.values(), given.get("groups", 1))
    node.kwargs = {}


def _as_list(value: Any, num_dimensions: int) -> Any:
    if value == "valid":
        value = 0
    if isinstance(value, tuple | list):
        return tuple(value) * (num_dimensions if len(value) == 1 else 1)
    return (value,) * num_dimensions if isinstance(value, int) else value


def faulty_modules(traced: GraphModule, backend: Backend) -> list[str]:
    """Names of modules of a kind, or with options, that no int8 kernel, or no sound one, takes.

    PReLU loses its scale, and ELU when it is stored; norms spoil transformers (`keep_residuals_float`).
    """
    return [name for name, module in traced.named_modules() if _is_faulty(module, backend)]


def _is_faulty(module: nn.Module, backend: Backend) -> bool:
    if isinstance(module, _CONVOLUTIONS):
        return isinstance(module.padding, str) or module.padding_mode not in ("zeros", "reflect")
    if isinstance(module, _POOLS):  # qnnpack divides by the whole window
        padding = module.padding if isinstance(module.padding, tuple) else (module.padding,)
        return backend == "qnnpack" and any(padding) and not module.count_include_pad
    return isinstance(module, nn.PReLU | nn.ELU | nn.LayerNorm)


def faulty_calls(traced: GraphModule, backend: Backend) -> list[Node]:
    """Calls of functions that must stay in float.

    Products of activations have a slow kernel, a stack of tensors with different scales loses all but one, a cat of what is
    no list cannot be followed, and qnnpack's pooling divides by the whole window. What is added to or multiplied by a number
    shares one observer with the result, so that x * 100 would cost x all but a hundredth of its codes.
    """
    calls = [node for node in traced.graph.nodes if node.op == "call_function"]
    return [
        node
        for node in calls
        if node.target in _FLOAT_FUNCTIONS
        or (node.target in _BINARY and _is_with_number(node))
        or (node.target in _CONVOLUTION_FUNCTIONS and "same" in node.args)
        or (node.target is torch.cat and isinstance(node.args[0], Node))
        or (backend == "qnnpack" and node.target in _POOL_FUNCTIONS and False in (*node.args, *node.kwargs.values()))
    ]


def _is_with_number(node: Node) -> bool:
    operands = [*node.args[:2], *(node.kwargs[name] for name in ("input", "other") if name in node.kwargs)]
    tensors = [operand for operand in operands if isinstance(operand, Node) and not _is_size(operand)]
    return len(tensors) == 1


def _is_size(node: Node) -> bool:
    """Whether a node is a size of a tensor or computed from sizes."""
    if node.target is getattr or node.target in ("size", "dim", "numel"):
        return True
    sources = node.all_input_nodes
    return node.target in _SIZE_ARITHMETIC and bool(sources) and all(_is_size(source) for source in sources)


def straighten_clamps(converted: GraphModule) -> None:
    """Put what qnnpack clamps into plain memory order first: its kernel mixes up the places of any other."""
    modules = dict(converted.named_modules())
    for node in list(converted.graph.nodes):
        is_clamp = node.op == "call_module" and isinstance(modules[str(node.target)], _CLAMPS)
        if is_clamp or (node.op in ("call_function", "call_method") and node.target in _CLAMP_FUNCTIONS):
            source = node.all_input_nodes[0]
            with converted.graph.inserting_before(node):
                node.replace_input_with(source, converted.graph.call_method("contiguous", (source,)))
    converted.recompile()
