"""Building an int8 network again from what a model file says, without calibration data."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def replay(
    network: nn.Module, rewrite: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """The int8 structure of a float network, and the file's tensors as its `load_state_dict` takes them.

    Raises ValueError when the description is broken.
    """
    raise NotImplementedError
