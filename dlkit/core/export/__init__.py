"""Files for other programs: ONNX, exported and compiled programs, plain weights."""

from dlkit.core.export.aoti import export_aoti, load_aoti
from dlkit.core.export.free_size import FreeSize, find_free_size
from dlkit.core.export.loading_code import onnx_session, torch_threads
from dlkit.core.export.onnx import ExportOptions, export_onnx, require_onnx
from dlkit.core.export.onnx_graph import INPUT, OUTPUT, build_onnx, finish_onnx
from dlkit.core.export.onnx_parity import check_onnx, start_session
from dlkit.core.export.parity import FLOAT_TOLERANCE, Parity, parity_of, require_parity
from dlkit.core.export.run import FORMATS, Exported, export_model
from dlkit.core.export.tracing import quiet_exporter
