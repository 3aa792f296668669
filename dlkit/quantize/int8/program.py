"""Which values of a program are codes, and what they stand for.

A program is a torch.fx GraphModule of Int8Layers, float modules and ordinary operations. Quantize and Dequantize are the only ways
between float32 and codes besides the layers themselves. An ordinary operation whose input is codes only moves them (flatten,
reshape, transpose, chunk, nearest interpolation and the like), so that what it makes are codes of the same mapping.
"""

import torch
from torch.fx import GraphModule, Node

from dlkit.quantize.int8.arithmetic import Affine
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.transposed import Int8ConvTranspose


def code_affines(program: GraphModule) -> dict[Node, Affine]:
    """How codes map to numbers, for every node whose value is codes (or a tuple of codes, as of chunk)."""
    found: dict[Node, Affine] = {}
    for node in program.graph.nodes:
        affine = _output_of(program, node, found)
        if affine is not None:
            found[node] = affine
    return found


def _output_of(program: GraphModule, node: Node, found: dict[Node, Affine]) -> Affine | None:
    if node.op in ("placeholder", "get_attr", "output"):
        return None
    if node.op == "call_module":
        layer = program.get_submodule(str(node.target))
        if isinstance(layer, Int8Layer | Int8ConvTranspose):
            return layer.output
    sources = [found[source] for source in node.all_input_nodes if source in found]
    is_size = node.op == "call_method" and node.target in ("size", "dim", "numel")
    is_attribute = node.op == "call_function" and node.target in (getattr, torch.ops.aten.sym_size.int)
    return sources[0] if sources and not (is_size or is_attribute) else None
