"""Tensors that go into networks and come out of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

_CPU = torch.device("cpu")


def random_inputs(
    input_size: Sequence[int], batch: int, device: torch.device = _CPU, *, generator: torch.Generator | None = None
) -> Tensor:
    """Standard normal numbers of shape (batch, *input_size), as normalized data are; always the same, or a generator's next."""
    generator = generator or torch.Generator().manual_seed(0)
    return torch.randn(batch, *input_size, generator=generator).to(device)


def tensors_in(value: Any) -> list[Tensor]:
    """Returns every tensor in a network's output or an operator's arguments, however they are nested, in their order."""
    if isinstance(value, Mapping):
        value = dict(value)  # `tree_leaves` takes a library's own kind of mapping for a leaf
    found = []
    for leaf in tree_leaves(value):
        if isinstance(leaf, Mapping):
            found += tensors_in(leaf)
        elif isinstance(leaf, Tensor):
            found.append(leaf)
    return found


def first_tensor(value: Any) -> Tensor | None:
    """Returns the first tensor in a network's output, None where there is none."""
    return next(iter(tensors_in(value)), None)


def top1_matches(outputs: Tensor, others: Tensor) -> Tensor:
    """Returns whether the largest of a sample's outputs is the same one in both, each of shape (N, ...); of shape (N,). Of maps
    (N, C, H, W) it is told of each place, (N, H, W).
    """
    if outputs.ndim == 4:
        return outputs.argmax(1) == others.argmax(1)
    return outputs.flatten(1).argmax(1) == others.flatten(1).argmax(1)
