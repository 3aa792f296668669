"""OpenVINO as a way to run `.onnx` files on the CPU. It comes with the extra `openvino`."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkit.core.benchmark.unavailable import EngineUnavailable
from dlkit.errors import FileRefused, first_line


def require_openvino() -> None:
    """Raise EngineUnavailable, with the line that installs it, when the extra is not there."""
    if find_spec("openvino") is None:
        raise EngineUnavailable("openvino", "OpenVINO is not installed: pip install 'dlkit[openvino]'")


def start_openvino_file(path: Path) -> Callable[[Tensor], Tensor]:
    """An `.onnx` file in OpenVINO, compiled for each shape of inputs, with as many threads as torch has.

    Raises EngineUnavailable without the extra, FileRefused for what it cannot read.
    """
    require_openvino()
    core = _core()
    try:
        model = core.read_model(path)
    except Exception as error:  # its errors share no base but Exception
        raise FileRefused(path, f"OpenVINO cannot load it: {first_line(error, 200)}") from None
    requests: dict[torch.Size, Any] = {}

    def run(inputs: Tensor) -> Tensor:
        if inputs.shape not in requests:
            requests[inputs.shape] = _compile(core, model.clone(), inputs.shape)
        outputs = requests[inputs.shape].infer({0: inputs.numpy()}, share_inputs=True)
        return torch.from_numpy(outputs[0])

    return run


@cache
def _core() -> Any:
    """OpenVINO itself, kept until the process ends.

    Its CPU plugin gives the thread a stack for signal handlers, which is gone once the last core is, but stays set: the next
    signal, such as that of Ctrl-C, would end the process (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _compile(core: Any, model: Any, shape: torch.Size) -> Any:
    """For this shape, one call at a time; float stays float32, so that outputs are those of other engines."""
    model.reshape(list(shape))
    return core.compile_model(model, "CPU", openvino_options(torch.get_num_threads())).create_infer_request()


def openvino_options(threads: int) -> dict[str, object]:
    """What OpenVINO is told when it compiles a network to be measured."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
