"""What a network with an auxiliary head gives in training: outputs of two heads, of which the second only helps to train."""

from typing import Any, NamedTuple

from torch import Tensor


class AuxiliaryOutputs(NamedTuple):
    """`main` is what the network is for; the loss of `auxiliary` is added to that of `main`, times `weight`."""

    main: Tensor
    auxiliary: Tensor
    weight: float


def main_output(outputs: Any) -> Any:
    """Returns what the network is for, of networks with an auxiliary head and of others."""
    return outputs.main if isinstance(outputs, AuxiliaryOutputs) else outputs
