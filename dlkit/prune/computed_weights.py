"""Layers whose weight is no parameter but is computed from others at every call: by weight norm, spectral norm and the like.

Neither a mask nor a cut holds there, as the next call computes the weight anew.
"""

from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.utils import parametrize

# what torch's hooks (the old form) and its parametrizations (the new one) are called; they have no public names
_KINDS = {
    "WeightNorm": "weight_norm",
    "_WeightNorm": "weight_norm",
    "SpectralNorm": "spectral_norm",
    "_SpectralNorm": "spectral_norm",
    "_Orthogonal": "orthogonal",
}


def find_computed_weights(network: nn.Module) -> dict[str, str]:
    """Why layers cannot be pruned, by their names: `its weight is computed by weight_norm at every call`."""
    found: dict[str, str] = {}
    for layer, module in network.named_modules():
        for weight, kind in _computed(module):
            found.setdefault(layer, f"its {weight} is computed by {kind} at every call")
    return found


def layers_by_reason(computed: Mapping[str, str]) -> dict[str, list[str]]:
    """The layers that share a reason, by the reason."""
    found: dict[str, list[str]] = {}
    for layer, reason in computed.items():
        found.setdefault(reason, []).append(layer or "the network")
    return found


def is_computed(module: nn.Module, name: str) -> bool:
    """Whether this attribute is computed from parameters of other names."""
    return any(name == computed for computed, _ in _computed(module))


def _computed(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of a module's computed tensors, and what computes them."""
    if parametrize.is_parametrized(module):
        for name, steps in module.parametrizations.items():  # type: ignore[operator, union-attr]
            yield name, ", ".join(_kind(step) for step in steps)
    for hook in module._forward_pre_hooks.values():
        name = getattr(hook, "name", getattr(hook, "_tensor_name", None))
        if isinstance(name, str) and not isinstance(module._parameters.get(name), nn.Parameter):
            yield name, _kind(hook)


def _kind(source: object) -> str:
    name = type(source).__name__
    return _KINDS.get(name, name)
