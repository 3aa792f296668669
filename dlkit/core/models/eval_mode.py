"""Evaluation mode for the length of a with-block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Afterwards every module is in the mode that it was in, whatever happened: batch norms that were frozen stay so."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        network.train(modes[0][1])  # a network's own `train` may do more than to set the flag
        for module, mode in modes:
            module.training = mode


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode, and afterwards every module in its own again. Gradients are the caller's affair."""
    with kept_modes(network):
        yield network.eval()


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Attention without torch's fused kernel, which hides its parts."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
