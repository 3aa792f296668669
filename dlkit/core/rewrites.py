"""Changes that a model file lists and that are made again after its network is built: pruning, then quantization.

Each kind names the function that replays it, resolved late, as core imports no task. It is called as
`replay(network, rewrite, state)` with the network so far, its own entry of the file and the file's tensors, and gives the
changed network and the tensors in the form that its `load_state_dict` takes. It raises ValueError for a broken entry.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor, nn

REPLAYS = {"prune": "dlkit.prune.replay", "quantize": "dlkit.quantize.replay"}

Replay = Callable[[nn.Module, Mapping[str, Any], Mapping[str, Tensor]], tuple[nn.Module, dict[str, Any]]]


def replay_rewrites(
    network: nn.Module, rewrites: Sequence[Mapping[str, Any]], state: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """The network after all rewrites, in their order, and its tensors. Raises ValueError for one that is unknown or broken."""
    tensors: dict[str, Any] = dict(state)
    for rewrite in rewrites:
        module = REPLAYS.get(str(rewrite.get("op")))
        if module is None:
            raise ValueError(f"holds a change that this dlkit does not know: {rewrite.get('op')!r}")
        replay: Replay = import_module(module).replay
        network, tensors = replay(network, rewrite, tensors)
    return network, tensors


def is_quantized(rewrites: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a file's network is int8 already."""
    return any(rewrite.get("op") == "quantize" for rewrite in rewrites)
