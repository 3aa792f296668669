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
from dlkit.quantize.encoding import encode
from dlkit.quantize.fx import no_deprecations, quantized_engine
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.replay import rewrite_entry

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
    """Write an int8 network atomically, and give what the file says of itself.

    `spec` is that of the float network; `example` is one batch of inputs; `provenance` is added to that of the float file
    under `quantize`. Raises ValueError for a network whose state cannot be stored.
    """
    made = replace(
        spec,
        transforms=(*spec.transforms, rewrite_entry(recipe, network, example)),
        provenance={**spec.provenance, "quantize": {"torch": str(torch.__version__), **(provenance or {})}},
    )
    with quantized_engine(recipe.backend), no_deprecations():
        state = encode(network.state_dict())
    save_model_file(path, made, state)
    return made


def check_reload(path: Path, network: nn.Module, example: Tensor, *, recipe: Recipe, model: str | None = None) -> None:
    """Load the file in a fresh process and compare its outputs with the network's, bit for bit.

    `model` names the class of a user's own network again. The file is removed and DlkitError raised when they differ or
    the file cannot be loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.pt", Path(folder) / "outputs.pt"
        torch.save(example.cpu(), inputs)
        arguments = [str(path), str(inputs), str(outputs), str(torch.get_num_threads()), *([model] if model else [])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-m", "dlkit.quantize.reloading", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=RELOAD_TIMEOUT_S,
        )
        problem = _problem(done, network, example, outputs)
    if problem:
        path.unlink(missing_ok=True)
        raise DlkitError(f"{path}: {problem}. The file was removed")


def _problem(
    done: "subprocess.CompletedProcess[str]", network: nn.Module, example: Tensor, outputs: Path
) -> str | None:
    if done.returncode:
        return f"the saved network cannot be loaded again: {done.stderr.strip()[-500:]}"
    with torch.no_grad():
        expected = network(example)
    return None if torch.equal(torch.load(outputs, weights_only=True), expected) else "reloaded outputs differ"
