"""No codes for values that the next activation does not tell apart.

Hard swish gives 0 for everything below -3, ReLU6 the same for everything outside of 0 to 6. A convolution in front of one
may then saturate there, which its int8 kernel does for nothing, and all 256 codes are left for the values that count. On
MobileNets this is worth more than any choice of observer (docs/concepts/quantization.md).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.quantize.fx import Bounds, clamp_inputs
from dlkit.quantize.observed import Observed, called_module, observed_tensors

# below and above which an activation is constant, or moves by less than half a step of 8 bits (sigmoid, tanh, SiLU, GELU)
_BOUNDS: dict[Any, Bounds] = {
    nn.ReLU: (0.0, math.inf),
    nn.ReLU6: (0.0, 6.0),
    nn.Hardswish: (-3.0, math.inf),
    nn.Hardsigmoid: (-3.0, 3.0),
    nn.Sigmoid: (-6.5, 6.5),
    nn.Tanh: (-3.5, 3.5),
    nn.SiLU: (-8.0, math.inf),
    nn.GELU: (-4.0, math.inf),
}
_FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    F.relu6: nn.ReLU6,
    F.hardswish: nn.Hardswish,
    F.hardsigmoid: nn.Hardsigmoid,
    torch.sigmoid: nn.Sigmoid,
    torch.tanh: nn.Tanh,
    F.silu: nn.SiLU,
    F.gelu: nn.GELU,
}


def clip_to_activations(prepared: GraphModule) -> list[str]:
    """Let observers see only what the activations behind them let through. Returns the names of the tensors that were clipped.

    Changes `prepared`: its observers clamp what they are shown and hand the clamped values on, which makes no difference to
    what comes after them.
    """
    clipped = []
    for observed in observed_tensors(prepared):
        bounds = _let_through(prepared, observed)
        if bounds != (-math.inf, math.inf):
            clamp_inputs(observed.observer, bounds)
            clipped.append(observed.name)
    return clipped


def _let_through(prepared: GraphModule, observed: Observed) -> Bounds:
    """The least bounds that change nothing for any reader of any tensor with this observer."""
    bounds = [_bounds(prepared, user) for call in observed.entries for user in call.users]
    if not bounds or None in bounds:
        return -math.inf, math.inf
    known = [pair for pair in bounds if pair is not None]
    return min(low for low, _ in known), max(high for _, high in known)


def _bounds(prepared: GraphModule, reader: Node) -> Bounds | None:
    module = called_module(prepared, reader)
    if isinstance(module, nn.Hardtanh):
        return module.min_val, module.max_val
    return _BOUNDS.get(type(module) if module is not None else _FUNCTIONS.get(reader.target))


def activation_of(network: GraphModule, reader: Node) -> Callable[[Tensor], Tensor] | None:
    """The activation that a node computes, as a function of its input alone, or None for a node of another kind."""
    if _bounds(network, reader) is None:
        return None
    module = called_module(network, reader)
    if module is not None:
        return module
    assert callable(reader.target)
    return partial(reader.target, **reader.kwargs)
