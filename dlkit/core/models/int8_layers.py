"""Telling int8 layers from float ones, and copies of networks that the room of int8 layers makes."""

from importlib import import_module

from torch import Tensor, nn

INT8_ROOM = "dlkit.quantize.int8"  # resolved late, as core imports no task


def is_int8_layer(module: nn.Module) -> bool:
    """Returns whether a module computes in int8. The classes that do say so of themselves: core does not know them."""
    return bool(getattr(module, "computes_int8", False))


def has_int8_layers(network: nn.Module) -> bool:
    """Returns whether layers of a network are int8."""
    return any(map(is_int8_layer, network.modules()))


def fitted_copy(network: nn.Module, example: Tensor) -> nn.Module:
    """Returns a copy of an int8 network whose weights are laid out for inputs of the example's shape."""
    copied: nn.Module = import_module(INT8_ROOM).fitted_copy(network, example)
    return copied


def unpacked_copy(network: nn.Module) -> nn.Module:
    """Returns a copy of an int8 network that packs its weights anew in each run, as part of a graph; a float one as it is."""
    if not has_int8_layers(network):
        return network
    copied: nn.Module = import_module(INT8_ROOM).unpacked_copy(network)
    return copied
