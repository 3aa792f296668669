"""Cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721, 4.1): make channels of two layers alike in range.

A channel whose weights are a hundredth of another's gets a hundredth of the codes where one scale serves the whole tensor.
Between two layers the ranges can be evened out, r1 and r2 both becoming sqrt(r1 r2), without changing the network.

ReLU6 is only homogeneous below its cap. Channels that stay below half of the cap on the calibration data are scaled, and
only so far that they still do; all others stay as they are. Without calibration data none of them is touched.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.quantize.ptq.channel_links import CAP, Link, find_links
from dlkit.quantize.ptq.channel_scaling import channel_maxima, columns_range, proven_links, rows_range, scale_link

_MOST_ROUNDS = 20
_MOST = 1e4  # of a factor in one round, so that a dead channel does not blow up its neighbour


@dataclass(frozen=True)
class Equalized:
    """A float network that computes the same as before, and the links along which it was scaled."""

    network: nn.Module
    links: tuple[Link, ...]


def equalize(network: nn.Module, batches: Sequence[Tensor] = (), keep_float: Sequence[str] = ()) -> Equalized:
    """A copy of the network with the weights of connected layers evened out, channel by channel; itself where none are connected.

    Raises UsageError for a network that cannot be followed.
    """
    found = find_links(network, next(iter(batches), None), keep_float)
    links = [link for link in found if link.layer is not None and (batches or not link.is_capped)]
    if not links:
        return Equalized(network, ())
    network = copy.deepcopy(network).eval()
    links = proven_links(network, links, batches[0]) if batches else links
    maxima = channel_maxima(network, [link.source for link in links if link.is_capped], batches)
    for _ in range(_MOST_ROUNDS):
        largest = 1.0
        for link in links:
            factors = _factors(network, link)
            if link.is_capped:
                factors = _below_cap(factors, maxima[link.source])
                maxima[link.source] = maxima[link.source] / factors
            scale_link(network, link, factors)
            largest = max(largest, float(factors.max()), 1 / float(factors.min()))
        if largest < 1.01:
            break
    return Equalized(network, tuple(links))


def _factors(network: nn.Module, link: Link) -> Tensor:
    """By what to divide each channel; 1 where it has no weights on one of the sides."""
    rows, columns = rows_range(network, link), columns_range(network, link)
    assert rows is not None
    factors = (rows / columns).sqrt().clamp(1 / _MOST, _MOST)
    return torch.where((rows > 0) & (columns > 0), factors, 1.0)


def _below_cap(factors: Tensor, maxima: Tensor) -> Tensor:
    """Factors that leave every channel below half of the cap, and 1 where it is above it already."""
    least = maxima / (CAP / 2)
    return torch.where(least <= 1, torch.maximum(factors, least), 1.0)
