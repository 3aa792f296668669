"""Weights that are computed from other parameters: weight norm and spectral norm, as hooks or as parametrizations."""

from typing import Any

from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm

from dlkit.core.models.copying import copy_network


def has_computed_weights(network: nn.Module) -> bool:
    """Whether a layer's weight is what torch's weight norm, spectral norm or another parametrization computes."""
    return any(parametrize.is_parametrized(module) or _hooks(module) for module in network.modules())


def with_plain_weights(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose layers have the computed weights as their own; the network itself where none are computed."""
    if not has_computed_weights(network):
        return network
    plain = copy_network(network).eval()
    for module in plain.modules():
        for hook in _hooks(module):
            remove = remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm
            remove(module, hook.name)
            _forget_loading(module)
        if parametrize.is_parametrized(module):
            _settle(module)
    return plain


def _forget_loading(module: nn.Module) -> None:
    """Drop what spectral norm wants to find in a state dict: torch looks for it, but not inside of its own wrapper (torch 2.15)."""
    for key, hook in list(module._load_state_dict_pre_hooks.items()):
        if isinstance(getattr(hook, "hook", hook), SpectralNormLoadStateDictPreHook):
            del module._load_state_dict_pre_hooks[key]


def _settle(module: Any) -> None:
    """Take parametrizations out of a copy: torch's own way changes the class, which the copy shares with its original."""
    computed = {name: getattr(module, name).detach().clone() for name in module.parametrizations}
    originals = {name: list(module.parametrizations[name].parameters(recurse=False)) for name in computed}
    del module.parametrizations
    module.__class__ = type(module).__mro__[1]
    for name, value in computed.items():
        if originals[name]:
            module.register_parameter(name, nn.Parameter(value))
        else:
            module.register_buffer(name, value)


def _hooks(module: nn.Module) -> list[WeightNorm | SpectralNorm]:
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm | SpectralNorm)]
