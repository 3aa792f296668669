"""Comparing an ONNX file with its int8 network layer by layer, every layer on torch's own input.

From end to end, one integer that is rounded the other way changes all that follow, so that a deep network differs a little even
where every layer is right. On equal inputs a layer that is right differs by one step of its grid at most.
"""

import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor
from torch.fx import GraphModule

from dlkit.core.export.onnx_graph import INPUT
from dlkit.core.export.onnx_parity import start_session
from dlkit.quantize.qdq_graph import GRID, run_nodes

STORED = {torch.uint8: TensorProto.UINT8, torch.int8: TensorProto.INT8}


def layer_steps(model: ModelProto, converted: GraphModule, inputs: Tensor) -> dict[str, int]:
    """The largest difference of each quantized tensor, in steps of its grid, by the name of its node in `converted`."""
    values = {
        node.name: value.int_repr() for node, value in run_nodes(converted, inputs).items() if value.is_quantized
    }
    cut, tensors = cut_at_grids(model, values)
    feeds = {name: values[node].numpy() for node, name in tensors.items()}
    made = start_session(cut.SerializeToString()).run(
        [f"{name}/made" for name in tensors.values()], feeds | {INPUT: inputs.numpy()}
    )
    return {
        node: int((torch.from_numpy(found).int() - values[node].int()).abs().max())
        for node, found in zip(tensors, made, strict=True)
    }


def cut_at_grids(model: ModelProto, values: dict[str, Tensor]) -> tuple[ModelProto, dict[str, str]]:
    """A copy of the model in which every quantized tensor is an input, and what the file makes of it is an output `.../made`.

    Also the tensors' names by node.
    """
    cut = ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    readers: dict[str, str] = {}  # by tensor: one may stand for several nodes, where an operation turned out to do nothing
    for node in graph.node:
        name, is_grid, _ = node.name.partition(f"{GRID}/")
        if is_grid and node.op_type == "DequantizeLinear" and name in values:
            readers.setdefault(node.input[0], name)
    tensors = {name: tensor for tensor, name in readers.items()}
    for node in graph.node:
        for position, output in enumerate(node.output):
            if output in readers:
                node.output[position] = f"{output}/made"
    for node_name, name in tensors.items():
        kind = STORED[values[node_name].dtype]
        graph.input.append(helper.make_tensor_value_info(name, kind, [None] * values[node_name].ndim))
        graph.output.append(helper.make_tensor_value_info(f"{name}/made", kind, None))
    return cut, tensors
