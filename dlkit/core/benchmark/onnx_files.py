"""`.onnx` files that are measured: a network's, written for the occasion, and what those of a user take."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from dlkit.core.benchmark.onnx_engine import open_session
from dlkit.core.benchmark.unavailable import EngineUnavailable
from dlkit.core.data import LARGEST_SAMPLE
from dlkit.core.export import export_onnx
from dlkit.errors import DlkitError, FileRefused
from dlkit.shapes import size_text

INT8_OPERATORS = {
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
}


@dataclass(frozen=True)
class OnnxFile:
    """An `.onnx` file with one input. `input_size` is one sample's, without the batch, None where the file leaves it open;
    `batch` is None for a free batch.
    """

    path: Path
    input_size: tuple[int, ...] | None
    batch: int | None
    is_int8: bool


@contextmanager
def written_as_onnx(network: nn.Module, example: Tensor, engine: str) -> Iterator[Path]:
    """The path of a network's ONNX file, which is there for the length of a with-block. Raises EngineUnavailable for the engine."""
    if example.device.type != "cpu":
        raise EngineUnavailable(engine, f"ONNX files are measured on the CPU, not on {example.device}")
    with tempfile.TemporaryDirectory(prefix="dlkit-onnx-") as folder:
        path = Path(folder) / "network.onnx"
        try:
            export_onnx(network, path, example)
        except DlkitError as error:
            raise EngineUnavailable(engine, str(error)) from error
        yield path


def read_onnx_file(path: Path) -> OnnxFile:
    """What an `.onnx` file takes. Raises EngineUnavailable without the extra, FileRefused for anything else."""
    session = open_session(path)
    taken = session.get_inputs()
    if len(taken) != 1 or taken[0].type != "tensor(float)":
        kinds = ", ".join(f"{node.name}: {node.type}" for node in taken)
        raise FileRefused(path, f"one float32 input is needed; it takes {kinds or 'none'}")
    batch, *size = taken[0].shape or [None]
    is_open = not size or not all(isinstance(length, int) for length in size)
    if not is_open and not 0 < math.prod(size) <= LARGEST_SAMPLE:
        raise FileRefused(path, f"its input is of {size_text(size)}; a sample has 1 to {LARGEST_SAMPLE:,} numbers")
    return OnnxFile(
        path, None if is_open else tuple(size), batch if isinstance(batch, int) else None, _holds_int8(path)
    )


def _holds_int8(path: Path) -> bool:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return any(node.op_type in INT8_OPERATORS for node in graph.node)
