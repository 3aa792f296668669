"""Telling int8 layers from float ones."""

from torch import nn

_INT8 = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")
_SIMULATED = "torch.ao.nn.quantized.reference."  # rounds weights, and computes in float


def is_int8_layer(module: nn.Module) -> bool:
    """Returns whether this is one of torch.ao's modules that compute in int8, statically or dynamically."""
    kind = type(module)
    # their packed parameters are modules, too, but are made from nothing
    is_ours = kind.__module__.startswith(_INT8) and not kind.__module__.startswith(_SIMULATED)
    return is_ours and hasattr(kind, "from_float")


def has_int8_layers(network: nn.Module) -> bool:
    """Returns whether layers of a network are int8."""
    return any(map(is_int8_layer, network.modules()))
