"""Regression outputs in the units of the data, where the network was trained on standardized targets."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from dlkit.core.export.onnx_graph import INPUT, OUTPUT, extend_onnx
from dlkit.core.export.onnx_parity import start_session
from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import has_int8_layers
from dlkit.errors import DlkitError

STANDARDIZED = "standardized"  # what the file called its output before
ROUNDING = 1e-5  # of the largest output: one multiplication and one addition in float32


class RestoredOutputs(nn.Module):
    """A network followed by `outputs * std + mean`."""

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(spec.info.target_mean))
        self.register_buffer("std", torch.tensor(spec.info.target_std))
        self.dlkit_spec = restored_spec(spec)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns outputs (N, num_outputs) in the units of the data."""
        outputs: Tensor = self.network(inputs) * self.std + self.mean
        return outputs


def restored_spec(spec: ModelSpec) -> ModelSpec:
    """Returns the description of a network whose outputs are in the units of the data."""
    return replace(spec, info=replace(spec.info, target_mean=None, target_std=None))


def with_restored_outputs(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """Returns the network to export: the network itself unless its outputs are standardized, and float."""
    if spec.info.target_mean is None or has_int8_layers(network):
        return network
    return RestoredOutputs(network, spec).eval()


def restore_onnx_outputs(data: bytes, spec: ModelSpec, inputs: Tensor) -> bytes:
    """Returns an ONNX file, float or int8, whose outputs are in the units of the data, checked on these inputs."""
    from onnx import helper

    std, mean = (np.array(values, dtype=np.float32) for values in (spec.info.target_std, spec.info.target_mean))
    nodes = [
        helper.make_node("Mul", [STANDARDIZED, "target_std"], ["scaled"], name="restore/scale"),
        helper.make_node("Add", ["scaled", "target_mean"], [OUTPUT], name="restore/shift"),
    ]
    values = {"target_std": std, "target_mean": mean}
    restored = extend_onnx(data, {OUTPUT: STANDARDIZED}, values, last=nodes)
    before, after = (start_session(part).run(None, {INPUT: inputs.numpy()})[0] for part in (data, restored))
    wanted = before.astype(np.float64) * std + mean
    if not np.abs(after - wanted).max() <= ROUNDING * np.abs(wanted).max():
        raise DlkitError("not written: the file does not give back the units of the data")
    return restored


def standardized_note(spec: ModelSpec) -> str:
    """Returns what the user of a file must know whose outputs stay standardized."""
    std, mean = (
        ", ".join(f"{value:.9g}" for value in values or ()) for values in (spec.info.target_std, spec.info.target_mean)
    )
    return f"outputs are standardized: multiply them by {std} and add {mean}"
