"""ONNX files of float networks, and of int8 ones by the exporter that the quantize task has for them."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dlkit.core.export.metadata import file_metadata, find_spec_of
from dlkit.core.files import write_bytes
from dlkit.core.modelfile import ModelSpec
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.core.export.onnx_parity import OnnxParity

NEEDED = ("onnx", "onnxscript", "onnxruntime")  # the extra `onnx`; torch's exporter needs the first two
CHECKED_SAMPLES = 3  # not the 2 that are traced, so that a batch size burnt into the graph shows
INT8_EXPORTER = "dlkit.quantize.onnx_qdq"  # resolved late, as core imports no task
INT8_LAYERS = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")


def export_onnx(
    network: nn.Module,
    path: Path,
    example: Tensor,
    *,
    inputs: Tensor | None = None,
    spec: ModelSpec | None = None,
) -> "OnnxParity":
    """Write a network, float or int8, as an ONNX file with `input` (N, ...) and `logits`, N free, and say how near it is.

    `example` is one batch of normalized inputs; `inputs`, by default random ones, are what the file is checked on in ONNX
    Runtime before anything is written; `spec`, by default what `load_model` left on the network, goes into its metadata.
    Raises UsageError for a missing extra or a network that cannot be exported, and DlkitError when the file would say
    something else than the network.
    """
    require_onnx()
    write = import_module(INT8_EXPORTER).export_onnx if has_int8_layers(network) else export_float_onnx
    parity: OnnxParity = write(network, path, example, inputs=inputs, spec=spec)
    return parity


def export_float_onnx(
    network: nn.Module,
    path: Path,
    example: Tensor,
    *,
    inputs: Tensor | None = None,
    spec: ModelSpec | None = None,
) -> "OnnxParity":
    """`export_onnx` of a float network."""
    require_onnx()
    from dlkit.core.export.onnx_graph import build_onnx, finish_onnx
    from dlkit.core.export.onnx_parity import check_onnx, require_float_parity

    model = finish_onnx(build_onnx(network, example), file_metadata(spec or find_spec_of(network)))
    parity = require_float_parity(check_onnx(model, network, random_inputs(example) if inputs is None else inputs))
    write_bytes(path, model)
    return parity


def random_inputs(example: Tensor) -> Tensor:
    """Normal numbers, always the same, in a batch of another size than any that a graph is traced with."""
    return torch.randn(CHECKED_SAMPLES, *example.shape[1:], generator=torch.Generator().manual_seed(0))


def require_onnx() -> None:
    """Raise UsageError, with the line that installs it, when the extra `onnx` is not there."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(f"ONNX needs {', '.join(missing)}, not installed here: pip install 'dlkit[onnx]'")


def has_int8_layers(network: nn.Module) -> bool:
    """Whether a network has layers that torch runs in int8."""
    return any(type(module).__module__.startswith(INT8_LAYERS) for module in network.modules())
