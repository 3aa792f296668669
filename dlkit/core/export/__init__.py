"""Files for other programs: ONNX, exported programs, plain weights."""

from dlkit.core.export.metadata import file_metadata, find_spec_of
from dlkit.core.export.onnx import export_onnx, require_onnx
from dlkit.core.export.onnx_graph import INPUT, OUTPUT, build_onnx, finish_onnx
from dlkit.core.export.onnx_parity import check_onnx, start_session
from dlkit.core.export.parity import Parity, compare_outputs, require_parity
from dlkit.core.export.run import FORMATS, Exported, export_model
from dlkit.core.export.tracing import quiet_exporter, random_inputs

__all__ = [
    "FORMATS",
    "INPUT",
    "OUTPUT",
    "Exported",
    "Parity",
    "build_onnx",
    "check_onnx",
    "compare_outputs",
    "export_model",
    "export_onnx",
    "file_metadata",
    "find_spec_of",
    "finish_onnx",
    "quiet_exporter",
    "random_inputs",
    "require_onnx",
    "require_parity",
    "start_session",
]
