"""Int8 networks as ONNX files in QDQ form: int8 weights, int32 biases, and a scale for every tensor in between.

Such a file holds no code, needs no torch, and is what ONNX Runtime, OpenVINO and TensorRT turn into int8 kernels. Integers
are those of torch: the same scales, weights and biases, so that both give the same up to rounding.
"""

from pathlib import Path

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.core.export.metadata import file_metadata, find_spec_of
from dlkit.core.export.onnx import random_inputs, require_onnx
from dlkit.core.export.onnx_graph import build_onnx, finish_onnx
from dlkit.core.export.onnx_parity import OnnxParity, check_onnx
from dlkit.core.files import write_bytes
from dlkit.core.modelfile import ModelSpec
from dlkit.errors import DlkitError, UsageError
from dlkit.quantize.qdq_cleanup import clean_qdq
from dlkit.quantize.qdq_graph import qdq_graph
from dlkit.quantize.qdq_steps import layer_steps


def export_onnx(
    converted: nn.Module,
    path: Path,
    example: Tensor,
    *,
    inputs: Tensor | None = None,
    spec: ModelSpec | None = None,
) -> OnnxParity:
    require_onnx()
    assert isinstance(converted, GraphModule)
    model = build_onnx(qdq_graph(converted, example), example)
    clean_qdq(model)
    data = finish_onnx(model, file_metadata(spec or find_spec_of(converted)))
    parity = check_onnx(data, converted, random_inputs(example) if inputs is None else inputs)
    steps = layer_steps(model, converted, random_inputs(example) if inputs is None else inputs)
    print({k:v for k,v in steps.items() if v>1}, len(steps), sum(steps.values()))
    write_bytes(path, data)
    return parity
