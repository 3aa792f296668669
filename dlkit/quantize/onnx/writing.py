"""Int8 networks as ONNX files in QDQ form: int8 weights, int32 biases, and a grid for every tensor in between.

Such a file holds no code and needs no torch; ONNX Runtime, OpenVINO and TensorRT turn it into int8 kernels. Scales, weights
and biases are those of the program, so that both compute the same integers up to rounding.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx import ModelProto
from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.core.export import (
    FLOAT_TOLERANCE,
    FreeSize,
    Parity,
    build_onnx,
    check_onnx,
    finish_onnx,
    quiet_exporter,
    require_parity,
)
from dlkit.errors import DlkitError
from dlkit.quantize.graph import called_module
from dlkit.quantize.int8 import product_of
from dlkit.quantize.onnx.cleanup import clean_qdq
from dlkit.quantize.onnx.cut_sums import cuts_off_sums, exact_copies, has_large_weights
from dlkit.quantize.onnx.dynamic import dynamic_network
from dlkit.quantize.onnx.layer_comparison import compare_layers
from dlkit.quantize.onnx.rounded_apart import is_rounded_apart
from dlkit.quantize.onnx.translation import qdq_graph

MOST_STEPS = 1  # both round once, perhaps in opposite directions where a sum lies between two codes
STEEPEST = 1.5  # slope of a hard swish, the steepest of the activations that runtimes compute apart
MOST_ROUNDINGS = (
    4  # half steps of a last product that runtimes alone round: one step, doubled, as resizing evens roundings out
)
DYNAMIC_TOLERANCE = 0.1  # of the largest output: LSTMs of ONNX Runtime round states in their own way


def make_onnx(
    network: nn.Module,
    example: Tensor,
    *,
    inputs: Sequence[Tensor],
    metadata: Mapping[str, str],
    free: FreeSize | None = None,
) -> tuple[bytes, Parity]:
    """An int8 network as the bytes of an ONNX file, and how near that is on the first of the batches `inputs`; it is checked on all
    of them. `example` is one such batch.

    On a CPU that would cut off large sums the file is judged by exact arithmetic instead. Raises UsageError for a layer that ONNX
    has no counterpart for, and DlkitError when a layer of the file computes something else than torch's.
    """
    with quiet_exporter():
        if isinstance(network, GraphModule):
            model = build_static(network, example, free)
        else:
            model = build_onnx(dynamic_network(network), example, free)
        data = finish_onnx(model, metadata)
        if not (cuts_off_sums() and has_large_weights(model)):
            return data, _require_all_same(model, network, inputs)
        exact, by_reference = exact_copies(model, network)
        parity = _require_all_same(exact, by_reference, inputs)
        return data, replace(parity, max_abs_here=check_onnx(data, by_reference, inputs[0]).max_abs)


def build_static(program: GraphModule, example: Tensor, free: FreeSize | None = None) -> ModelProto:
    """The QDQ model of a network that was quantized statically or in training."""
    model = build_onnx(qdq_graph(program, example), example, free)
    clean_qdq(model)
    return model


def _require_all_same(model: ModelProto, network: nn.Module, inputs: Sequence[Tensor]) -> Parity:
    """The parity on the first batch."""
    parities = [_require_same(model, network, batch) for batch in inputs]
    return parities[0]


def _require_same(model: ModelProto, network: nn.Module, inputs: Tensor) -> Parity:
    if isinstance(network, GraphModule):
        return _require_layers(model, network, inputs)
    return require_parity(check_onnx(model.SerializeToString(), network, inputs), tolerance=DYNAMIC_TOLERANCE)


def _require_layers(model: ModelProto, program: GraphModule, inputs: Tensor) -> Parity:
    compared = compare_layers(model, program, inputs)
    for node in program.graph.nodes:
        steps = compared.steps.get(node.name, 0)
        if steps > _most_steps(called_module(program, node)):
            raise DlkitError(
                f"the ONNX file was not written: on equal input its {node.name} differs by {steps} steps from torch's"
            )
    # what follows the last codes; a sum between two codes may be rounded the other way, so that a step is no fault
    rounding = MOST_ROUNDINGS * compared.rounding / (compared.output.output_max or 1)
    require_parity(compared.output, tolerance=FLOAT_TOLERANCE + rounding)
    whole = check_onnx(model.SerializeToString(), program, inputs)
    return replace(whole, layer_steps=max(compared.steps.values(), default=0))


def _most_steps(layer: nn.Module | None) -> int:
    """More where runtimes round once more, before the sum or the activation: by half a step of that rounding."""
    product = product_of(layer) if layer is not None and is_rounded_apart(layer) else None
    if product is None or product.y is None:
        return MOST_STEPS
    ratio: float = product.inner.scale / product.y.scale
    return MOST_STEPS + math.ceil(STEEPEST * ratio / 2)
