"""Building a pruned network again: the same layers with the sizes that a model file lists."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dlkit.prune.sizes import resize


def replay(
    network: nn.Module, rewrite: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """The network with its layers cut to the listed sizes; works on the meta device too. Raises ValueError when broken.

    The entry is what `describe_sizes` gives: `sizes` by layer, and `parameters`, shapes of tensors that belong to none.
    """
    sizes, parameters = rewrite.get("sizes"), rewrite.get("parameters", {})
    if not isinstance(sizes, Mapping) or not isinstance(parameters, Mapping):
        raise ValueError("pruning lists no sizes of layers")
    resize(network, sizes, parameters)
    return network, dict(state)
