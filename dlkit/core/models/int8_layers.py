"""Telling int8 layers from float ones."""

from torch import nn


def is_int8_layer(module: nn.Module) -> bool:
    """Returns whether a module computes in int8. The classes that do say so of themselves: core does not know them."""
    return bool(getattr(module, "computes_int8", False))


def has_int8_layers(network: nn.Module) -> bool:
    """Returns whether layers of a network are int8."""
    return any(map(is_int8_layer, network.modules()))
