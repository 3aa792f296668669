"""Whether an ONNX file says what its network says: both run on the same inputs, the file in ONNX Runtime."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from dlkit.core.export.onnx_graph import INPUT
from dlkit.errors import DlkitError

FLOAT_TOLERANCE = 1e-3  # of the largest output; sums in another order differ by some 1e-6 of it


@dataclass(frozen=True)
class OnnxParity:
    """How far a file is from its network: the largest difference of any output and of what size outputs are, the share of
    samples with the same top class, and for int8 the largest difference of any layer on equal input, in steps of its grid.
    """

    samples: int
    max_abs: float
    output_max: float
    agreement: float
    layer_steps: float | None = None


def start_session(model: bytes | Path, *, threads: int | None = None, optimized_path: Path | None = None) -> Any:
    """An ONNX Runtime session on the CPU with as many threads as torch has; `optimized_path` gets the graph that it runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def check_onnx(model: bytes | Path, network: nn.Module, inputs: Tensor) -> OnnxParity:
    """Run a file and the network that it was made from on the same inputs, normalized as the network takes them."""
    with torch.no_grad():
        expected: Tensor = network(inputs)
    (found,) = start_session(model).run(None, {INPUT: inputs.numpy()})
    return compare_outputs(torch.from_numpy(found), expected)


def compare_outputs(found: Tensor, expected: Tensor) -> OnnxParity:
    """The measures of two outputs of shape (N, ...). Raises DlkitError when the shapes differ."""
    if found.shape != expected.shape:
        raise DlkitError(f"the ONNX file gives {tuple(found.shape)} where the network gives {tuple(expected.shape)}")
    same = (found.flatten(1).argmax(1) == expected.flatten(1).argmax(1)).float().mean()
    return OnnxParity(len(found), float((found - expected).abs().max()), float(expected.abs().max()), float(same))


def require_float_parity(parity: OnnxParity) -> OnnxParity:
    """The parity of a float network, or DlkitError when it is worse than rounding explains."""
    if not parity.max_abs <= FLOAT_TOLERANCE * max(1.0, parity.output_max):  # NaN is refused too
        raise DlkitError(
            f"the ONNX file was not written: it differs from the network by {parity.max_abs:.3g} on outputs up to "
            f"{parity.output_max:.3g}"
        )
    return parity
