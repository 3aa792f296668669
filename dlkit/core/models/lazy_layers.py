"""Lazy layers (nn.LazyLinear, nn.LazyConv2d): their sizes are known once a batch has passed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dlkit.core.components import ComponentError
from dlkit.core.models.eval_mode import eval_mode
from dlkit.errors import first_line
from dlkit.shapes import size_text


def initialize_lazy_layers(
    network: nn.Module, name: str, input_size: tuple[int, ...] | None, *, inputs: Sequence[Any] | None = None
) -> nn.Module:
    """Returns the network after one batch has passed, in evaluation mode, if it has lazy layers; the same object, also on the
    meta device.

    The batch is two samples of `input_size`, or `inputs` where it is given. Raises ComponentError where neither is known, where it
    does not pass, and for a layer that it does not reach.
    """
    if not _lazy_names(network):
        return network
    if inputs is None and input_size is None:
        raise ComponentError(f"{name} has lazy layers, whose sizes follow from the input, which is not known here")
    if inputs is None:
        assert input_size is not None
        inputs = [torch.zeros(2, *input_size, device=_device(network))]
    try:
        with eval_mode(network), torch.no_grad():
            network(*inputs)
    except Exception as error:
        sizes = " and ".join(size_text(value.shape) for value in inputs)
        raise ComponentError(
            f"the lazy layers of {name} cannot be initialized by a batch of {sizes}: {type(error).__name__}: {first_line(error)}"
        ) from error
    if unreached := _lazy_names(network):
        raise ComponentError(
            f"{unreached[0]} of {name} is a lazy layer that no batch reaches; take it out, or give it its size"
        )
    return network


def _lazy_names(network: nn.Module) -> list[str]:
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return [key for key, tensor in tensors if is_lazy(tensor)]


def _device(network: nn.Module) -> torch.device:
    return next(tensor.device for tensor in [*network.parameters(), *network.buffers()])
