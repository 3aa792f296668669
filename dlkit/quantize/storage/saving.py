"""Writing an int8 network to a model file, and proving in a fresh process that the file gives the same outputs."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.errors import DlkitError
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.storage.replay import rewrite_entry

RELOAD_TIMEOUT_S = 600


def save_quantized(
    path: Path,
    spec: ModelSpec,
    network: nn.Module,
    *,
    recipe: Recipe,
    example: Tensor,
    provenance: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """Write an int8 network atomically. Returns what the file says of itself.

    `spec` is that of the float network; `example` is one batch of inputs; `provenance` is added to that of the float file
    under `quantize`.
    """
    made = replace(
        spec,
        transforms=(*spec.transforms, rewrite_entry(recipe, network, example)),
        provenance={**spec.provenance, "quantize": {"torch": str(torch.__version__), **(provenance or {})}},
    )
    save_model_file(path, made, network.state_dict())
    return made


def check_reload(path: Path, network: nn.Module, example: Tensor, *, model: str | None = None) -> None:
    """Load the file in a fresh process and compare its outputs with the network's, bit for bit.

    `model` names the class of a user's own network again. The file is removed and DlkitError raised when they differ, are not
    finite, or the file cannot be loaded.
    """
    with torch.no_grad():
        expected = network(example)
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.pt", Path(folder) / "outputs.pt"
        torch.save(example.cpu(), inputs)
        problem = _run_apart(path, inputs, outputs, model)
        if problem is None:
            problem = _difference(expected, torch.load(outputs, weights_only=True))
    if problem:
        path.unlink(missing_ok=True)
        raise DlkitError(f"{path}: {problem}. The file was removed")


def _run_apart(path: Path, inputs: Path, outputs: Path, model: str | None) -> str | None:
    """Run the file in a fresh process. Returns what went wrong, or None."""
    arguments = [str(path), str(inputs), str(outputs), str(torch.get_num_threads()), *([model] if model else [])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # a user's class may lie in the working folder
    command = [sys.executable, "-m", "dlkit.quantize.storage.reloading", *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RELOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"loading it in a fresh process took more than {RELOAD_TIMEOUT_S} s"
    if done.returncode:
        return f"it cannot be loaded in a fresh process: {done.stderr.strip()[-500:]}"
    return None


def _difference(expected: Any, found: Any) -> str | None:
    """What is wrong with reloaded outputs: tensors, or tuples of them."""
    if isinstance(expected, tuple | list):
        return next((problem for pair in zip(expected, found, strict=True) if (problem := _difference(*pair))), None)
    if not isinstance(expected, Tensor):
        return None
    if not expected.isfinite().all():
        return "the int8 network's outputs are not finite"
    if not torch.equal(expected, found):
        largest = float((expected - found).abs().max()) if expected.shape == found.shape else float("inf")
        return f"the reloaded network gives other outputs, off by up to {largest:.2g}"
    return None
