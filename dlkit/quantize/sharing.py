"""Copies of networks that take no memory for weights.

A quantization makes many graphs of one network, and none of them changes a float weight: int8 layers hold numbers of their
own. If each had its own copy of the weights, a network of 2 GiB would not fit into 24.
"""

import copy
from functools import partial
from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def copy_sharing_weights(network: Network) -> Network:
    """A copy with modules and buffers of its own whose parameters are those of `network`: not to be trained, nor changed."""
    parameters = list(network.parameters())
    for parameter in parameters:
        # a memo would do, but GraphModules do not pass it on
        parameter.__dict__["__deepcopy__"] = partial(_itself, parameter)
    try:
        return copy.deepcopy(network)
    finally:
        for parameter in parameters:
            del parameter.__dict__["__deepcopy__"]


def _itself(parameter: nn.Parameter, memo: dict[int, Any]) -> nn.Parameter:
    return parameter
