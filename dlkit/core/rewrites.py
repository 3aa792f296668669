"""Rewrites of a network that a model file lists and that are made again after it is built: pruning, then quantization.

Each kind names the function that replays it, resolved late, as core imports no task. It is called as
`replay(network, rewrite, state)` with the network so far, its own entry of the file and the file's tensors, and returns the
rewritten network and the tensors in the form that its `load_state_dict` takes. It raises ValueError for a broken entry.
Where loading needs something besides, such as the engine that packs int8 weights, the same module has `loading(rewrite)`,
a context manager that stays open until all is loaded.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor, nn

REPLAYS = {"prune": "dlkit.prune", "quantize": "dlkit.quantize"}

Replay = Callable[[nn.Module, Mapping[str, Any], Mapping[str, Tensor]], tuple[nn.Module, dict[str, Any]]]
Loading = Callable[[Mapping[str, Any]], AbstractContextManager[None]]


def load_rewritten(network: nn.Module, rewrites: Sequence[Mapping[str, Any]], state: Mapping[str, Tensor]) -> nn.Module:
    """The network after all rewrites, in their order, with the file's tensors loaded strictly.

    Raises ValueError for a rewrite that is unknown or broken, and RuntimeError for tensors that do not fit.
    """
    tensors: dict[str, Any] = dict(state)
    with ExitStack() as contexts:
        for rewrite in rewrites:
            task = _task(rewrite)
            if hasattr(task, "loading"):
                loading: Loading = task.loading
                contexts.enter_context(loading(rewrite))
            replay: Replay = task.replay
            network, tensors = replay(network, rewrite, tensors)
        network.load_state_dict(tensors, strict=True)
    return network


def _task(rewrite: Mapping[str, Any]) -> ModuleType:
    module = REPLAYS.get(str(rewrite.get("op")))
    if module is None:
        raise ValueError(f"holds a change that this dlkit does not know: {rewrite.get('op')!r:.80}")
    return import_module(module)


def is_quantized(rewrites: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a file's network is int8 already."""
    return any(rewrite.get("op") == "quantize" for rewrite in rewrites)
