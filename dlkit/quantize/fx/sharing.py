"""Copies of networks that take no memory for weights, and memory back from graphs that nobody needs any more.

A quantization makes many graphs of one network, and none of them changes a float weight: int8 layers hold numbers of their
own. If each had its own copy of the weights, a network of 2 GiB would not fit into 24.
"""

import copy
import gc
from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)
_WORTH_COLLECTING = 256 * 2**20  # bytes of weights; collecting takes some tenths of a second


def copy_sharing_weights(network: Network) -> Network:
    """A copy with modules and buffers of its own whose parameters are those of `network`: not to be trained, nor changed."""
    parameters = list(network.parameters())
    for parameter in parameters:
        # a memo would do, but torch.ao's GraphModules do not pass it on
        parameter.__deepcopy__ = lambda memo, own=parameter: own  # type: ignore[attr-defined]
    try:
        return copy.deepcopy(network)
    finally:
        for parameter in parameters:
            del parameter.__deepcopy__  # type: ignore[attr-defined]


def collect_graphs(network: nn.Module) -> None:
    """Free graphs that were dropped, if networks are as large as this one.

    Graphs, their nodes and modules refer to each other, so that only Python's search for cycles frees them. That one starts by
    the number of objects, however many bytes they hold.
    """
    if sum(parameter.nbytes for parameter in network.parameters()) >= _WORTH_COLLECTING:
        gc.collect()
