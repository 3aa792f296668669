"""ONNX Runtime as a way to run `.onnx` files. It comes with the extra `onnx`."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.core.benchmark.unavailable import EngineUnavailable
from dlkit.core.export import start_session
from dlkit.errors import FileRefused, first_line


def require_onnxruntime() -> None:
    """Raise EngineUnavailable, with the line that installs it, when the extra is not there."""
    if find_spec("onnxruntime") is None:
        raise EngineUnavailable("onnx", "ONNX Runtime is not installed: pip install 'dlkit[onnx]'")


def start_onnx_file(path: Path) -> Callable[[Tensor], Tensor]:
    """An `.onnx` file in ONNX Runtime, with as many threads as torch has. Raises EngineUnavailable and FileRefused."""
    session = open_session(path)
    name = session.get_inputs()[0].name

    def run(inputs: Tensor) -> Tensor:
        outputs = session.run(None, {name: inputs.numpy()})
        return torch.from_numpy(outputs[0])

    return run


def open_session(path: Path) -> Any:
    """A session on a file. Raises EngineUnavailable without the extra, FileRefused for what is no ONNX file."""
    require_onnxruntime()
    if not path.is_file():
        raise FileRefused(path, "no such file")
    try:
        return start_session(path)
    except Exception as error:  # its errors share no base but Exception
        raise FileRefused(path, f"ONNX Runtime cannot load it: {first_line(error, 200)}") from None
