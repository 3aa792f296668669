"""CPUs on which ONNX Runtime cuts off large sums, and how a file is judged on one.

Without VNNI its kernels add two products of an unsigned and a signed byte in 16 bits: 2 * 255 * 127 does not fit. Products of two
unsigned bytes are added in 32 bits everywhere. So a file whose weights are stored as unsigned bytes, with a zero point that is
greater by 128, has the same numbers and is computed exactly.
"""

import copy
from typing import TypeVar

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from dlkit.core.export import INPUT, OUTPUT, start_session
from dlkit.quantize.int8 import bind_kernels

Network = TypeVar("Network", bound=nn.Module)

SAFE = 64  # 2 * 255 * 64 fits into 16 bits
_LENGTH = 64
_CODES = {
    "DequantizeLinear": (0, 2),
    "MatMulInteger": (1, 3),
    "DynamicQuantizeLSTM": (1, 2, 9, 11),
}  # weights, zero points
_ZERO = np.zeros((), np.int8)


def cuts_off_sums() -> bool:
    """Whether ONNX Runtime gets the largest sum of bytes wrong on this CPU."""
    weight = np.full((_LENGTH, 16), 127, np.int8)
    values = [numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", [INPUT, "weight"], [OUTPUT])],
        "largest sum",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [1, _LENGTH])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.INT32, [1, 16])],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (sums,) = start_session(model.SerializeToString()).run(None, {INPUT: np.full((1, _LENGTH), 255, np.uint8)})
    return bool((sums != _LENGTH * 255 * 127).any())


def has_large_weights(model: ModelProto) -> bool:
    """Whether a file has weights of 8 bits, whose sums may be cut off."""
    constants = _int8_constants(model)
    weights = [constants.get(node.input[_CODES[node.op_type][0]]) for node in _readers(model)]
    return any(np.abs(weight.astype(np.int16)).max(initial=0) > SAFE for weight in weights if weight is not None)


def exact_copies(model: ModelProto, network: Network) -> tuple[ModelProto, Network]:
    """The file with its weights as unsigned bytes and the network by the reference kernels: both add without losing anything."""
    exact = copy.deepcopy(network)
    bind_kernels(exact, "reference")
    return with_unsigned_weights(model), exact


def with_unsigned_weights(model: ModelProto) -> ModelProto:
    """A copy of a file that has the same numbers, with int8 weights shifted by 128 to uint8, and their zero points too."""
    shifted = ModelProto()
    shifted.CopyFrom(model)
    constants, made = _int8_constants(model), {}
    for node in _readers(shifted):
        for place in _CODES[node.op_type]:
            node.input.extend([""] * (place + 1 - len(node.input)))
            codes = constants.get(node.input[place], _ZERO)  # a zero point that is left out is 0
            name = f"{node.input[place] or 'zero_point'}/unsigned"
            made[name] = (codes.astype(np.int16) + 128).astype(np.uint8)
            node.input[place] = name
    shifted.graph.initializer.extend(numpy_helper.from_array(codes, name) for name, codes in made.items())
    return shifted


def _readers(model: ModelProto) -> list[NodeProto]:
    """Nodes that read int8 weights."""
    constants = _int8_constants(model)
    return [
        node for node in model.graph.node if node.op_type in _CODES and node.input[_CODES[node.op_type][0]] in constants
    ]


def _int8_constants(model: ModelProto) -> dict[str, np.ndarray]:
    items = (item for item in model.graph.initializer if item.data_type == TensorProto.INT8)
    return {item.name: numpy_helper.to_array(item) for item in items}
