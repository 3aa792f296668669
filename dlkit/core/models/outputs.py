"""TODO."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


def output_tensors(output: Any) -> list[Tensor]:
    """Every tensor in a network's output, however it is nested."""
    if isinstance(output, Mapping):
        output = dict(output)  # also a library's own kind of mapping
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
