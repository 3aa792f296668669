"""Activations by name: ours, and any of torch.nn's in any case."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import activation as torch_activations

from dlkit.core.components import Builder, ComponentError, check_options, import_target
from dlkit.registry import INJECTED, find_entry, spellings
from dlkit.suggestions import did_you_mean

_NOT_ELEMENTWISE = {"MultiheadAttention"}


class Swish(nn.Module):
    """x * sigmoid(beta * x), of any shape (Ramachandran et al., 2017). With beta fixed at 1 it is exactly SiLU.

    A learnable beta is one number, a tensor without dimensions, so weight decay leaves it alone.
    """

    def __init__(self, beta: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        self.beta: float | nn.Parameter = nn.Parameter(torch.tensor(float(beta))) if learnable else float(beta)
        self._is_silu = not learnable and beta == 1

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each element."""
        return F.silu(x) if self._is_silu else x * torch.sigmoid(self.beta * x)

    def extra_repr(self) -> str:
        """Beta, and whether it is learned."""
        return "beta=learnable" if isinstance(self.beta, nn.Parameter) else f"beta={self.beta:g}"


def torch_activation_names() -> dict[str, str]:
    """Returns names of torch.nn's activation classes by their lower-case spelling."""
    return {name.lower(): name for name in torch_activations.__all__ if name not in _NOT_ELEMENTWISE}


def is_activation(name: str) -> bool:
    """Returns whether `build_activation` knows this name."""
    return find_entry("activations", name) is not None or name.lower() in torch_activation_names()


def known_activations() -> list[str]:
    """Returns all names, ours first."""
    return [
        *spellings("activations"),
        *(name for name in torch_activation_names().values() if find_entry("activations", name) is None),
    ]


def build_activation(spec: str | Mapping[str, Any]) -> nn.Module:
    """Returns a new activation from `relu` or `{name: swish, beta: 1.5, learnable: true}`.

    Raises ComponentError for an unknown name or option.
    """
    options: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ComponentError(f"an activation is a name or a mapping with a name, not {spec!r}")
    builder = _find_builder(name)
    check_options(builder, options, injected=INJECTED["activations"])
    dim = inspect.signature(builder).parameters.get("dim")
    if dim is not None and dim.default is None:
        options.setdefault("dim", 1)  # softmax over channels or features; torch would guess, and warn
    try:
        activation = builder(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ComponentError(f"{name} cannot be built: {error}") from error
    assert isinstance(activation, nn.Module)
    return activation


def _find_builder(name: str) -> Builder:
    if entry := find_entry("activations", name):
        return import_target(entry.target)
    if torch_name := torch_activation_names().get(name.lower()):
        builder: Builder = getattr(nn, torch_name)
        return builder
    raise ComponentError(
        f"no activation {name!r}.{did_you_mean(name, known_activations())} See `dlkit list activations`"
    )
