"""Smoothing (Xiao et al. 2022, arXiv:2211.10438): move the range of outlier channels from activations into weights.

One scale serves all channels of an activation, so that a channel fifty times as large as the others leaves them few codes.
Weights have one scale per output channel and can take it: channel c of the output of a norm or layer is divided by
s_c = a_c^alpha / w_c^(1 - alpha), with a_c the largest activation and w_c the largest weight that reads it.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.quantize.ptq.channel_links import Link, find_links
from dlkit.quantize.ptq.channel_scaling import channel_maxima, columns_range, proven_links, scale_link

ALPHAS = (0.3, 0.5, 0.7)
_SOURCES = (nn.LayerNorm, nn.RMSNorm, nn.Linear)
_READERS = (nn.Linear, nn.MultiheadAttention)


@dataclass(frozen=True)
class Smoothed:
    """A float network that computes the same as before, the links that were scaled, and how far."""

    network: nn.Module
    links: tuple[Link, ...]
    alpha: float


@dataclass(frozen=True)
class Smoothable:
    """The links of a network that are proven to be scalable, and the largest activation of each channel at their sources."""

    links: tuple[Link, ...]
    maxima: Mapping[str, Tensor]


def find_smoothable(network: nn.Module, batches: Sequence[Tensor], keep_float: Sequence[str] = ()) -> Smoothable:
    """What is needed to smooth by any strength. Raises UsageError for a network that cannot be followed."""
    network = copy.deepcopy(network).eval()
    links = proven_links(network, smoothable_links(network, batches[0], keep_float), batches[0])
    maxima = channel_maxima(network, [link.source for link in links], batches, is_magnitude=True)
    return Smoothable(tuple(links), maxima)


def smooth(network: nn.Module, found: Smoothable, *, alpha: float) -> Smoothed:
    """A copy of the network whose activations in front of linear layers are alike in range over channels.

    Only what linear layers and attention read is smoothed.
    """
    network = copy.deepcopy(network).eval()
    for link in found.links:
        scale_link(network, link, _factors(found.maxima[link.source], columns_range(network, link), alpha))
    return Smoothed(network, found.links, alpha)


def smoothable_links(network: nn.Module, example: Tensor | None = None, keep_float: Sequence[str] = ()) -> list[Link]:
    """Links from a layer norm or linear layer to linear layers or attention. Raises UsageError as `find_links` does."""
    return [
        link
        for link in find_links(network, example, keep_float)
        if not link.is_capped
        and isinstance(network.get_submodule(link.source), _SOURCES)
        and all(isinstance(network.get_submodule(name), _READERS) for name in link.readers)
    ]


def _factors(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """The factors of the paper, 1 for a channel that is always zero or that nothing reads."""
    is_used = (activations > 0) & (weights > 0)
    factors = activations.pow(alpha) / weights.pow(1 - alpha)
    return torch.where(is_used, factors, 1.0)
