"""ONNX Runtime as a way to run networks and `.onnx` files. It comes with the extra `onnx`."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.export import export_onnx, start_session
from dlkit.errors import DlkitError, FileRefused, UsageError, first_line

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


def require_onnxruntime() -> None:
    """Raise EngineUnavailable, with the line that installs it, when the extra is not there."""
    if find_spec("onnxruntime") is None:
        raise EngineUnavailable("onnx", "ONNX Runtime is not installed: pip install 'dlkit[onnx]'")


def start_network_in_onnxruntime(network: nn.Module, example: Tensor) -> Callable[[Tensor], Tensor]:
    """A network, written to a temporary ONNX file, in ONNX Runtime on the CPU. Raises EngineUnavailable."""
    require_onnxruntime()
    if example.device.type != "cpu":
        raise EngineUnavailable("onnx", f"ONNX Runtime is measured on the CPU, not on {example.device}")
    with tempfile.TemporaryDirectory(prefix="dlkit-onnx-") as folder:
        path = Path(folder) / "network.onnx"
        try:
            export_onnx(network, path, example)
        except DlkitError as error:
            raise EngineUnavailable("onnx", str(error)) from error
        return start_onnx_file(path)


def start_onnx_file(path: Path) -> Callable[[Tensor], Tensor]:
    """An `.onnx` file in ONNX Runtime, with as many threads as torch has. Raises EngineUnavailable and FileRefused."""
    session = _open_session(path)
    name = session.get_inputs()[0].name

    def run(inputs: Tensor) -> Tensor:
        outputs = session.run(None, {name: inputs.numpy()})
        return torch.from_numpy(outputs[0])

    return run


def read_onnx_file(path: Path) -> OnnxFile:
    """What an `.onnx` file takes. Raises EngineUnavailable without the extra, FileRefused for anything else."""
    session = _open_session(path)
    taken = session.get_inputs()
    if len(taken) != 1 or taken[0].type != "tensor(float)":
        kinds = ", ".join(f"{node.name}: {node.type}" for node in taken)
        raise FileRefused(path, f"one float32 input is needed; it takes {kinds or 'none'}")
    batch, *size = taken[0].shape or [None]
    is_open = not size or not all(isinstance(length, int) for length in size)
    return OnnxFile(
        path, None if is_open else tuple(size), batch if isinstance(batch, int) else None, _holds_int8(path)
    )


def _open_session(path: Path) -> Any:
    require_onnxruntime()
    if not path.is_file():
        raise FileRefused(path, "no such file")
    try:
        return start_session(path)
    except Exception as error:  # its errors share no base but Exception
        raise FileRefused(path, f"ONNX Runtime cannot load it: {first_line(error, 200)}") from None


def _holds_int8(path: Path) -> bool:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return any(node.op_type in INT8_OPERATORS for node in graph.node)


class EngineUnavailable(UsageError):
    """An engine that cannot run a network on this machine; `reason` says why, for tables that list it."""

    def __init__(self, engine: str, reason: str) -> None:
        self.engine, self.reason = engine, reason
        super().__init__(f"engine {engine}: {reason}")
