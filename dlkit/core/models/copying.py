"""Copies of whole networks, also of those that hold tensors which autograd made."""

import copy
from typing import TypeVar

from torch import Tensor, nn

from dlkit.core.models.tensors import tensors_in

Network = TypeVar("Network", bound=nn.Module)


def copy_network(network: Network) -> Network:
    """Returns a deep copy. Tensors that a module keeps from its last forward pass, such as the weight that the old
    `torch.nn.utils.weight_norm` computes, are copied without their history, which `copy.deepcopy` refuses.
    """
    return copy.deepcopy(network, {id(tensor): tensor.detach().clone() for tensor in computed_tensors(network)})


def computed_tensors(network: nn.Module) -> list[Tensor]:
    """Tensors with a history that modules keep as plain attributes, also inside lists, tuples and mappings."""
    attributes = [value for module in network.modules() for value in vars(module).values()]
    return [tensor for tensor in tensors_in(attributes) if tensor.grad_fn is not None]
