"""How large the outputs of modules get, channel by channel."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.quantize.fidelity import outputs_of

_ROWS = (nn.Linear, nn.LayerNorm, nn.RMSNorm)


def channel_maxima(
    network: nn.Module, names: Sequence[str], batches: Sequence[Tensor], *, is_magnitude: bool = False
) -> dict[str, Tensor]:
    """Largest output, or largest magnitude, of each channel of the named modules (C,), over all batches."""
    seen = {name: _Maximum(network.get_submodule(name), is_magnitude=is_magnitude) for name in names}
    hooks = [network.get_submodule(name).register_forward_hook(seen[name].record) for name in seen]
    try:
        if seen:
            outputs_of(network, batches)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: maximum.value for name, maximum in seen.items() if maximum.value is not None}


class _Maximum:
    """A running maximum per channel."""

    def __init__(self, module: nn.Module, *, is_magnitude: bool) -> None:
        self._axis = -1 if isinstance(module, _ROWS) else 1
        self._is_magnitude = is_magnitude
        self.value: Tensor | None = None

    def record(self, module: nn.Module, inputs: Any, outputs: Tensor) -> None:
        """A forward hook."""
        values = outputs.abs() if self._is_magnitude else outputs
        largest = values.detach().movedim(self._axis, 0).flatten(1).amax(1)
        self.value = largest if self.value is None else torch.maximum(self.value, largest)
