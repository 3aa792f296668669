"""Evaluation mode for the length of a with-block."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode; afterwards every module is in the mode that it was in, whatever happened."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield network.eval()
    finally:
        for module, mode in modes:
            module.training = mode
