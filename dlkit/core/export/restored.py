"""Networks that give regression outputs in the units of the data, where they were trained on standardized targets."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import has_int8_layers


class RestoredOutputs(nn.Module):
    """A network followed by `outputs * std + mean`."""

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(spec.info.target_mean))
        self.register_buffer("std", torch.tensor(spec.info.target_std))
        info = replace(spec.info, target_mean=None, target_std=None)
        self.dlkit_spec = replace(spec, info=info)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns outputs (N, num_outputs) in the units of the data."""
        outputs: Tensor = self.network(inputs) * self.std + self.mean
        return outputs


def with_restored_outputs(network: nn.Module, spec: ModelSpec) -> tuple[nn.Module, ModelSpec]:
    """Returns the network to export and its description; the network itself unless its outputs are standardized and float."""
    if spec.info.target_mean is None or has_int8_layers(network):
        return network, spec
    restored = RestoredOutputs(network, spec)
    return restored.eval(), restored.dlkit_spec


def standardized_note(spec: ModelSpec) -> str:
    """Returns what the user of a file must know whose outputs stay standardized."""
    std, mean = (
        ", ".join(f"{value:.9g}" for value in values or ()) for values in (spec.info.target_std, spec.info.target_mean)
    )
    return f"outputs are standardized: multiply them by {std} and add {mean}"
