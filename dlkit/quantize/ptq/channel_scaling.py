"""Scaling the channels of a link, and the ranges that say how far: of the weights on both sides, and of the outputs between."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.quantize.ptq.channel_links import Link
from dlkit.quantize.ptq.fidelity import outputs_of

PROVEN_ON = 4  # samples
MOST_CHANGE = 1e-3  # of the outputs, relative, that rounding of float32 explains
_ROWS = (nn.Linear, nn.LayerNorm, nn.RMSNorm)


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


def proven_links(network: nn.Module, links: Sequence[Link], batch: Tensor) -> list[Link]:
    """The links along which scaling leaves what the network computes for a batch as it is: tried with factors 1, 2 and 4.

    An axis that a layer and a norm count differently shows here, and nowhere else if both have as many channels. Links through ReLU6,
    which such factors do change, are left to the shapes of convolutions. The network is scaled, and scaled back exactly.
    """
    batch = batch[:PROVEN_ON]
    expected = outputs_of(network, [batch])
    tried = [link for link in links if not link.is_capped]
    if not tried or _is_kept(network, tried, batch, expected):
        return list(links)
    return [link for link in links if link.is_capped or _is_kept(network, [link], batch, expected)]


def _is_kept(network: nn.Module, links: Sequence[Link], batch: Tensor, expected: Tensor) -> bool:
    factors = [_trial_factors(len(network.get_submodule(link.source).weight)) for link in links]  # type: ignore[arg-type]
    for link, one in zip(links, factors, strict=True):
        scale_link(network, link, one)
    found = outputs_of(network, [batch])
    for link, one in zip(links, factors, strict=True):
        scale_link(network, link, 1 / one)
    return bool((found - expected).norm() <= MOST_CHANGE * expected.norm())


def _trial_factors(channels: int) -> Tensor:
    return 2.0 ** torch.randint(0, 3, (channels,), generator=torch.Generator().manual_seed(channels))


def rows_range(network: nn.Module, link: Link) -> Tensor | None:
    """Largest magnitude of the weights that compute each channel (C,), with the batch norm folded; None without a layer."""
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


def channel_maxima(
    network: nn.Module, names: Sequence[str], batches: Sequence[Tensor], *, is_magnitude: bool = False
) -> dict[str, Tensor]:
    """Largest output, or largest magnitude, of each channel of the named modules (C,), over all batches."""
    seen = {name: _Maximum(network.get_submodule(name), is_magnitude=is_magnitude) for name in names}
    hooks = [network.get_submodule(name).register_forward_hook(seen[name].record) for name in seen]
    try:
        if seen:
            outputs_of(network, batches)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: maximum.value for name, maximum in seen.items() if maximum.value is not None}


class _Maximum:
    """A running maximum per channel."""

    def __init__(self, module: nn.Module, *, is_magnitude: bool) -> None:
        self._axis = -1 if isinstance(module, _ROWS) else 1
        self._is_magnitude = is_magnitude
        self.value: Tensor | None = None

    def record(self, module: nn.Module, inputs: Any, outputs: Tensor) -> None:
        """A forward hook."""
        values = outputs.abs() if self._is_magnitude else outputs
        largest = values.detach().movedim(self._axis, 0).flatten(1).amax(1)
        self.value = largest if self.value is None else torch.maximum(self.value, largest)
