"""From a network to an ONNX graph: torch's exporter, called once and kept quiet, with the batch as a free axis."""

import ast
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from dlkit.core.export.free_size import SIDES, FreeSize
from dlkit.core.export.tracing import BATCH, export_program, quiet_exporter, reason
from dlkit.errors import OutOfResource, UsageError

if TYPE_CHECKING:  # onnx is an extra
    from onnx import ModelProto, NodeProto

INPUT, OUTPUT = "input", "logits"
MOST_BYTES = 2**31 - 1  # what one protobuf message can hold


def build_onnx(network: nn.Module, example: Tensor, free: FreeSize | None = None) -> "ModelProto":
    """The network as an ONNX model with float32 `input` of example's size and `logits`, both with a free first axis `batch`, and
    perhaps with free `height` and `width`.

    Raises UsageError, with torch's own reason, for a network that cannot be exported with these axes free.
    """
    program = export_program(network, free.traced(example), free.dims()) if free else export_program(network, example)
    try:
        with quiet_exporter():
            exported = torch.onnx.export(
                program, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False, external_data=False
            )
    except Exception as error:  # the exporter wraps what it meets in errors of many kinds
        raise UsageError(f"this network cannot be written as ONNX: {reason(error)}") from error
    assert exported is not None
    model: ModelProto = exported.model_proto
    tidy(model)
    if free:
        _name_sides(model)
    return model


def _name_sides(model: "ModelProto") -> None:
    """Call the free sides by their names; what is known of tensors in between is by torch's."""
    del model.graph.value_info[:]
    given = model.graph.input[0].type.tensor_type.shape.dim
    names = {given[place].dim_param: name for place, name in enumerate(SIDES, start=2)}
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def extend_onnx(
    data: bytes,
    renamed: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    *,
    first: Sequence["NodeProto"] = (),
    last: Sequence["NodeProto"] = (),
    input_shape: Sequence[int | str] | None = None,
) -> bytes:
    """An ONNX file with nodes before and behind those that it has, in which tensors got other names to make room for theirs, and
    perhaps with an input of another shape.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(data)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    for node in reversed(first):
        model.graph.node.insert(0, node)
    model.graph.node.extend(last)
    if input_shape is not None:
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, input_shape))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def tidy(model: "ModelProto") -> None:
    """Name nodes for their modules and the free axis for what it is, and take out the exporter's notes, stack traces above all."""
    graph = model.graph
    for node in graph.node:
        node.name = _node_name(node)
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    del model.metadata_props[:], graph.metadata_props[:]
    for item in (*graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.ClearField("doc_string")
    for value in (*graph.value_info, *graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = dim.dim_param.replace(symbol, BATCH)


def _node_name(node: "NodeProto") -> str:
    """`layer1.0.conv1/conv2d_3`: the module, and the first output, which makes it unique."""
    notes = {entry.key: entry.value for entry in node.metadata_props}
    scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
    module = scopes[-2] if len(scopes) > 1 else ""
    return f"{module}/{node.output[0]}" if module else node.output[0]


def finish_onnx(model: "ModelProto", metadata: Mapping[str, str]) -> bytes:
    """The file's bytes, after onnx.checker agreed. Raises OutOfResource for what is too large for one ONNX file."""
    from onnx import checker

    model.producer_name, model.producer_version = "dlkit", metadata.get("dlkit", "")
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    if model.ByteSize() > MOST_BYTES:
        raise OutOfResource(
            f"{model.ByteSize() / 1e9:.1f} GB do not fit one ONNX file, which ends at 2 GB; quantize first"
        )
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
