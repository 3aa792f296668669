"""Building a pruned network again: the same layers with the sizes that a model file lists."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def replay(
    network: nn.Module, rewrite: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """The network with its layers cut to the listed sizes; works on the meta device too. Raises ValueError when broken."""
    raise NotImplementedError
