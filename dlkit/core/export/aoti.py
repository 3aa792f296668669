"""Packages compiled ahead of time: a network as native code and weights in one .pt2 file, which torch runs without compiling."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.environment import NO_COMPILER, find_compiler
from dlkit.core.export.metadata import file_metadata, find_spec_of
from dlkit.core.export.parity import INT8_TOLERANCE, Parity, parity_of, require_parity
from dlkit.core.export.tracing import CHECKED_SAMPLES, export_program, quiet_exporter, reason
from dlkit.core.models import eval_mode, has_int8_layers, random_inputs, unpacked_copy
from dlkit.errors import UsageError
from dlkit.files import write_bytes


def export_aoti(network: nn.Module, path: Path, example: Tensor) -> Parity:
    """Compile a network, float or int8, for any batch size, and write it after it was loaded and run beside the network.

    Raises UsageError without a C++ compiler and for a network that cannot be captured or compiled, and DlkitError when the
    package would compute something else than the network.
    """
    require_compiler()
    inputs = random_inputs(example.shape[1:], CHECKED_SAMPLES)
    tolerance = {"tolerance": INT8_TOLERANCE} if has_int8_layers(network) else {}
    with tempfile.TemporaryDirectory(prefix="dlkit-aoti-") as folder:
        package = Path(folder) / "network.pt2"  # torch takes no other ending
        _compile(network, package, example)
        with eval_mode(network), torch.no_grad():
            parity = require_parity(parity_of(load_aoti(package)(inputs), network(inputs)), **tolerance)
        write_bytes(path, package.read_bytes())
    return parity


def require_compiler() -> None:
    """Raise UsageError where no C++ compiler is."""
    if not find_compiler():
        raise UsageError(f"aoti compiles the network, and {NO_COMPILER}")


def load_aoti(path: Path) -> Callable[[Tensor], Tensor]:
    """The function that is in a package. This runs native code: only for packages that were made here."""
    with quiet_exporter():
        loaded: Any = torch._inductor.aoti_load_package(str(path))

    def run(inputs: Tensor) -> Tensor:
        outputs: Tensor = loaded(inputs)
        return outputs

    return run


def _compile(network: nn.Module, path: Path, example: Tensor) -> None:
    options = {
        "freezing": True,  # weights are laid out for their kernels now
        "cpp.dynamic_threads": True,  # else the number of threads here is written into the code
        "aot_inductor.metadata": file_metadata(find_spec_of(network)),
    }
    with torch.inference_mode(mode=False), torch.no_grad():
        program = export_program(unpacked_copy(network), example.clone())
        try:
            with quiet_exporter():
                torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
        except Exception as error:  # compilers fail with many kinds of error
            raise UsageError(f"torch cannot compile this network ahead of time: {reason(error)}") from error
