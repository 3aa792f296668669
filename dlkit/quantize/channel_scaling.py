"""Scaling the channels of a link, and the ranges of weights on both of its sides."""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.quantize.channel_links import Link


def scale_link(network: nn.Module, link: Link, factors: Tensor) -> None:
    """Divide each channel of the link by its factor (C,), and multiply by it the weights that read the channel.

    Changes the network, but not what it computes, as far as a ReLU6 in between stays below its cap.
    """
    source: Any = network.get_submodule(link.source)
    with torch.no_grad():
        source.weight.div_(factors.reshape(-1, *[1] * (source.weight.ndim - 1)))
        if getattr(source, "bias", None) is not None:
            source.bias.div_(factors)
        for name in link.readers:
            weight = _by_channel(network.get_submodule(name), len(factors))
            weight.mul_(factors.reshape(len(weight), 1, -1, 1))


def rows_range(network: nn.Module, link: Link) -> Tensor | None:
    """Largest magnitude of the weights that give each channel (C,), with the batch norm folded; None without a layer."""
    if link.layer is None:
        return None
    layer: Any = network.get_submodule(link.layer)
    largest: Tensor = layer.weight.detach().flatten(1).abs().amax(1)
    if link.source != link.layer:
        norm: Any = network.get_submodule(link.source)
        largest = largest * (norm.weight.detach() / (norm.running_var + norm.eps).sqrt()).abs()
    return largest


def columns_range(network: nn.Module, link: Link) -> Tensor:
    """Largest magnitude of the weights that read each channel (C,), over all readers."""
    source: Any = network.get_submodule(link.source)
    readers = [_by_channel(network.get_submodule(name), len(source.weight)) for name in link.readers]
    return torch.stack([weight.abs().amax((1, 3)).flatten() for weight in readers]).amax(0)


def _by_channel(reader: Any, num_channels: int) -> Tensor:
    """A view of a reader's weight: (groups, rows, channels of a group, weights of a row for a channel)."""
    if isinstance(reader, nn.MultiheadAttention):
        return reader.in_proj_weight.detach()[None, :, :, None]
    weight: Tensor = reader.weight.detach()
    if isinstance(reader, nn.Linear):
        return weight.view(1, len(weight), num_channels, -1)
    return weight.view(reader.groups, len(weight) // reader.groups, weight.shape[1], -1)
