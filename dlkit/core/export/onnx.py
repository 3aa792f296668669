"""ONNX files of float networks, and of int8 ones by the exporter that the quantize task has for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from dlkit.core.export.free_size import FreeSize
from dlkit.core.export.metadata import file_metadata, find_spec_of, session_metadata
from dlkit.core.export.normalizing import normalize_onnx_inputs, raw_spec
from dlkit.core.export.opset import convert_opset
from dlkit.core.export.parity import Parity, require_parity
from dlkit.core.export.resizing import resize_onnx_inputs
from dlkit.core.export.restored import restore_onnx_outputs, restored_spec
from dlkit.core.export.tracing import CHECKED_SAMPLES
from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import has_int8_layers, random_inputs
from dlkit.errors import UsageError
from dlkit.files import write_bytes

NEEDED = ("onnx", "onnxscript", "onnxruntime")  # the extra `onnx`; torch's exporter needs the first two
INT8_EXPORTER = "dlkit.quantize.onnx.writing"  # resolved late, as core imports no task


@dataclass(frozen=True)
class ExportOptions:
    """What a file does itself: with `normalizes` it takes inputs that are not normalized, with `resizes` images of any size, which it
    brings to that of the network; with `has_free_size` it takes images as large as they are. `opset` is the version of its operators,
    by default the exporter's. `threads` are what it is to run with, by default what its runtime takes.
    """

    normalizes: bool = False
    resizes: bool = False
    opset: int | None = None
    threads: int | None = None
    has_free_size: bool = False


AS_IT_IS = ExportOptions()


def export_onnx(
    network: nn.Module,
    path: Path,
    example: Tensor,
    *,
    inputs: Tensor | None = None,
    spec: ModelSpec | None = None,
    options: ExportOptions = AS_IT_IS,
    free: FreeSize | None = None,
) -> Parity:
    """Write a network, float or int8, as an ONNX file with `input` (N, ...) and `logits`, N free, and say how near it is.

    `example` is one batch of normalized inputs; `inputs`, by default random ones, are what the file is checked on in ONNX
    Runtime before anything is written; `spec`, by default what `load_model` left on the network, goes into its metadata. With `free`,
    height and width are free, too, and the file is checked at several sizes.
    Where it is given and targets were standardized, the file's outputs are in the units of the data.
    Raises UsageError for a missing extra or a network that cannot be exported, and DlkitError when the file would say
    something else than the network.
    """
    require_onnx()
    if inputs is None:
        inputs = random_inputs(example.shape[1:], CHECKED_SAMPLES)
    make = import_module(INT8_EXPORTER).make_onnx if has_int8_layers(network) else _make_float
    told = restored_spec(spec) if spec else find_spec_of(network)
    told = raw_spec(told) if told and options.normalizes else told
    data, parity = make(
        network,
        example,
        inputs=[inputs, *(free.other_inputs(inputs) if free else [])],
        metadata=file_metadata(told) | session_metadata(options.threads),
        free=free,
    )
    write_bytes(path, _with_options(data, spec, options, inputs))
    found: Parity = parity
    return found


def _with_options(data: bytes, spec: ModelSpec | None, options: ExportOptions, inputs: Tensor) -> bytes:
    if spec and spec.info.target_mean is not None:
        data = restore_onnx_outputs(data, spec, inputs)
    if spec and options.normalizes:
        data = normalize_onnx_inputs(data, spec, inputs)
    if spec and options.resizes:
        data = resize_onnx_inputs(data, spec)
    return data if options.opset is None else convert_opset(data, options.opset, inputs)


def _make_float(
    network: nn.Module,
    example: Tensor,
    *,
    inputs: Sequence[Tensor],
    metadata: Mapping[str, str],
    free: FreeSize | None,
) -> tuple[bytes, Parity]:
    from dlkit.core.export.onnx_graph import build_onnx, finish_onnx
    from dlkit.core.export.onnx_parity import check_onnx

    data = finish_onnx(build_onnx(network, example, free), metadata)
    parities = [require_parity(check_onnx(data, network, batch)) for batch in inputs]
    return data, parities[0]


def require_onnx() -> None:
    """Raise UsageError, with the line that installs it, when the extra `onnx` is not there."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(f"ONNX needs {', '.join(missing)}, not installed here: pip install 'dlkit[onnx]'")
