"""How many weights of a network are zero, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.prune.masks.weights import PrunableWeight


@dataclass(frozen=True)
class LayerSparsity:
    """A weight: how many of its entries are zero, and of its output channels (slices along dimension 0) as a whole."""

    name: str
    kind: str
    shape: tuple[int, ...]
    num_weights: int
    num_zero: int
    num_zero_channels: int

    @property
    def share(self) -> float:
        """The share of entries that are zero."""
        return self.num_zero / self.num_weights


def measure_sparsity(weights: Sequence[PrunableWeight]) -> list[LayerSparsity]:
    """One row for each weight, in their order."""
    return [_measure(weight.name, weight.kind, weight.parameter.detach()) for weight in weights]


def _measure(name: str, kind: str, weight: Tensor) -> LayerSparsity:
    is_zero = weight == 0
    channels = is_zero.flatten(1).all(1)
    return LayerSparsity(name, kind, tuple(weight.shape), weight.numel(), int(is_zero.sum()), int(channels.sum()))


def total_sparsity(rows: Sequence[LayerSparsity]) -> float:
    """The share of zeros over all rows."""
    return sum(row.num_zero for row in rows) / max(1, sum(row.num_weights for row in rows))


def count_zeros(network: nn.Module) -> int:
    """Zeros among all parameters of a network; shared ones once."""
    return sum(int(torch.count_nonzero(parameter == 0)) for parameter in network.parameters())
