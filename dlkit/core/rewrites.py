"""Rewrites of a network that a model file lists and that are made again after it is built: pruning, then quantization.

Each kind names the function that replays it, resolved late, as core imports no task. It is called as
`replay(network, rewrite, state)` with the network so far, its own entry of the file and the file's tensors, and returns the
rewritten network and the tensors in the form that its `load_state_dict` takes. It raises ValueError for a broken entry.
Where something is left to do once all is loaded, such as packing int8 weights, the same module has `after_loading(network, rewrite)`.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor, nn

REPLAYS = {"prune": "dlkit.prune", "quantize": "dlkit.quantize"}

Replay = Callable[[nn.Module, Mapping[str, Any], Mapping[str, Tensor]], tuple[nn.Module, dict[str, Any]]]
AfterLoading = Callable[[nn.Module, Mapping[str, Any]], None]


def load_rewritten(network: nn.Module, rewrites: Sequence[Mapping[str, Any]], state: Mapping[str, Tensor]) -> nn.Module:
    """The network after all rewrites, in their order, with the file's tensors loaded strictly.

    Raises ValueError for a rewrite that is unknown or broken, and RuntimeError for tensors that do not fit.
    """
    tensors: dict[str, Any] = dict(state)
    for rewrite in rewrites:
        replay: Replay = _task(rewrite).replay
        network, tensors = replay(network, rewrite, tensors)
    network.load_state_dict(tensors, strict=True)
    for rewrite in rewrites:
        finish: AfterLoading | None = getattr(_task(rewrite), "after_loading", None)
        if finish is not None:
            finish(network, rewrite)
    return network


def _task(rewrite: Mapping[str, Any]) -> ModuleType:
    module = REPLAYS.get(str(rewrite.get("op")))
    if module is None:
        raise ValueError(f"holds a change that this dlkit does not know: {rewrite.get('op')!r:.80}")
    return import_module(module)


def is_quantized(rewrites: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a file's network is int8 already."""
    return any(rewrite.get("op") == "quantize" for rewrite in rewrites)
