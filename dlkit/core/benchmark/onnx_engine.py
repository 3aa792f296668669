"""ONNX Runtime as a way to run `.onnx` files. It comes with the extra `onnx`."""

import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor

from dlkit.core.benchmark.unavailable import EngineUnavailable
from dlkit.core.export import start_session
from dlkit.errors import FileRefused, first_line

FIRST_RUN_S = 60


def require_onnxruntime() -> None:
    """Raise EngineUnavailable, with the line that installs it, when the extra is not there."""
    if find_spec("onnxruntime") is None:
        raise EngineUnavailable("onnx", "ONNX Runtime is not installed: pip install 'dlkit[onnx]'")


def start_onnx_file(path: Path) -> Callable[[Tensor], Tensor]:
    """An `.onnx` file in ONNX Runtime, with as many threads as torch has. Raises EngineUnavailable and FileRefused; the first run of
    a batch size TimeoutError when it takes more than `FIRST_RUN_S`.
    """
    session = open_session(path)
    name = session.get_inputs()[0].name
    answered: set[int] = set()

    def run(inputs: Tensor) -> Tensor:
        feeds = {name: inputs.numpy()}
        outputs = session.run(None, feeds) if len(inputs) in answered else _first_run(session, feeds)
        answered.add(len(inputs))
        return torch.from_numpy(outputs[0])

    return run


def _first_run(session: Any, feeds: dict[str, Any]) -> Any:
    """Run in a thread, so that a loop that does not end can be ended: by the time limit, and by a signal."""
    import onnxruntime

    options, ended = onnxruntime.RunOptions(), SimpleQueue[Any]()

    def work() -> None:
        try:
            ended.put(session.run(None, feeds, options))
        except Exception as error:
            ended.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        found = ended.get(timeout=FIRST_RUN_S)
    except Empty:
        raise TimeoutError(f"it has not answered within {FIRST_RUN_S} s") from None
    finally:
        options.terminate = True
    if isinstance(found, Exception):
        raise found
    return found


def open_session(path: Path) -> Any:
    """A session on a file. Raises EngineUnavailable without the extra, FileRefused for what is no ONNX file."""
    require_onnxruntime()
    if not path.is_file():
        raise FileRefused(path, "no such file")
    try:
        return start_session(path)
    except Exception as error:  # its errors share no base but Exception
        raise FileRefused(path, f"ONNX Runtime cannot load it: {first_line(error, 200)}") from None
