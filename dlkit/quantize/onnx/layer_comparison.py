"""Comparing an ONNX file with its int8 network layer by layer, every layer on the program's own input.

From end to end, one integer that is rounded the other way changes all that follow, so that a deep network differs a little even
where every layer is right. On equal inputs a layer that is right differs by a code.
"""

from dataclasses import dataclass
from typing import Any

import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor
from torch.fx import GraphModule, Node

from dlkit.core.export import INPUT, OUTPUT, Parity, parity_of, start_session
from dlkit.quantize.graph import called_module
from dlkit.quantize.int8 import Affine, code_affines
from dlkit.quantize.onnx.rounded_apart import bare_codes, is_inside, is_rounded_apart, run_rounded_end
from dlkit.quantize.onnx.translation import ON_CODES, run_nodes

KINDS = {torch.uint8: TensorProto.UINT8, torch.int8: TensorProto.INT8}


@dataclass(frozen=True)
class LayerComparison:
    """`steps` is the largest difference of each quantized tensor, in codes, by the name of its node; `output`
    compares the network's output as the file makes it from the program's last quantized tensors. `rounding` is what half a step of
    the roundings that runtimes do more on this way is worth in outputs, 0 without any.
    """

    steps: dict[str, int]
    output: Parity
    rounding: float


def compare_layers(model: ModelProto, program: GraphModule, inputs: Tensor) -> LayerComparison:
    """Run an int8 network, and the file's layers on what it computed."""
    values = run_nodes(program, inputs)
    affines = code_affines(program)
    integers = {node.name: _in_bytes(value, affines[node]) for node, value in values.items() if node in affines}
    cut, tensors = cut_at_codes(model, integers)
    feeds = {name: integers[node].numpy() for node, name in tensors.items()}
    wanted = [OUTPUT, *(_made(name) for name in tensors.values())]
    session = start_session(cut.SerializeToString())
    # a file whose input is quantized at once has no use for anything but the integers
    asked = {entry.name for entry in session.get_inputs()}
    logits, *made = session.run(
        wanted, {key: value for key, value in feeds.items() if key in asked} | {INPUT: inputs.numpy()}
    )
    nodes = {node.name: node for node in affines}
    steps = {
        name: _steps(torch.from_numpy(found), integers[name], where=_let_through(program, nodes[name], integers))
        for name, found in zip(tensors, made, strict=True)
    }
    end = run_rounded_end(program, values, integers)
    return LayerComparison(steps | end.steps, parity_of(torch.from_numpy(logits), end.output), end.rounding)


def _in_bytes(codes: Any, affine: Affine) -> Any:
    return codes.to(affine.dtype) if isinstance(codes, Tensor) else codes


def _let_through(program: GraphModule, node: Node, integers: dict[str, Tensor]) -> Tensor | None:
    """Where a result is within the range of that one rounding more, which cuts off what calibration hardly saw; None is everywhere."""
    layer = called_module(program, node)
    if layer is None or not is_rounded_apart(layer):
        return None
    return is_inside(layer, bare_codes(layer, integers[node.all_input_nodes[0].name]))


def _steps(found: Tensor, wanted: Tensor, *, where: Tensor | None) -> int:
    """The largest difference."""
    differences = (found.int() - wanted.int()).abs()
    return int((differences if where is None else differences * where).max())


def cut_at_codes(model: ModelProto, integers: dict[str, Tensor]) -> tuple[ModelProto, dict[str, str]]:
    """A copy of the model that takes every quantized tensor as an input and outputs what it makes of it; tensors' names by node."""
    cut = ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    readers: dict[
        str, str
    ] = {}  # by tensor: one may stand for several nodes, where an operation turned out to do nothing
    for node in graph.node:
        name, is_codes, _ = node.name.partition(f"{ON_CODES}/")
        if is_codes and node.op_type == "DequantizeLinear" and name in integers:
            readers.setdefault(node.input[0], name)
    for node in graph.node:
        for position, output in enumerate(node.output):
            if output in readers:
                node.output[position] = _made(output)
    for tensor, name in readers.items():
        kind = KINDS[integers[name].dtype]
        graph.input.append(helper.make_tensor_value_info(tensor, kind, [None] * integers[name].ndim))
        graph.output.append(helper.make_tensor_value_info(_made(tensor), kind, None))
    return cut, {name: tensor for tensor, name in readers.items()}


def _made(tensor: str) -> str:
    return f"{tensor}/made"
