"""Running ONNX files in ONNX Runtime, and comparing them with the networks that they were made from."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.export.onnx_graph import INPUT
from dlkit.core.export.parity import Parity, parity_of
from dlkit.core.export.tracing import quiet_exporter
from dlkit.core.models import eval_mode


def start_session(model: bytes | Path, *, threads: int | None = None, optimized_path: Path | None = None) -> Any:
    """An ONNX Runtime session on the CPU with as many threads as torch has; `optimized_path` gets the graph that it runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised as well
    # its threads would else go on spinning for a while after a run, on the cores of whoever runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def check_onnx(model: bytes | Path, network: nn.Module, inputs: Tensor) -> Parity:
    """Run a file and the network that it was made from on the same inputs, normalized as the network takes them."""
    with eval_mode(network), torch.no_grad(), quiet_exporter():  # what a network warns of, it warns of whenever it runs
        expected: Tensor = network(inputs)
    (found,) = start_session(model).run(None, {INPUT: inputs.numpy()})
    return parity_of(torch.from_numpy(found), expected)
