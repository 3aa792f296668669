"""What torch.ao keeps globally: the engine and filters of warnings, set for the length of a with-block, and every network."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.ao.quantization.fx.utils import assert_and_get_unique_device


@contextmanager
def quantized_engine(name: str) -> Iterator[None]:
    """Make this the engine that packs and runs int8 weights, and put back the one that was."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


class _OwnEngine:
    """Runs and copies one network under an engine and puts back the one that was, also after an exception."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.before: list[str] = []

    def enter(self, module: nn.Module, inputs: object) -> None:
        self.before.append(torch.backends.quantized.engine)
        torch.backends.quantized.engine = self.name

    def leave(self, module: nn.Module, inputs: object, outputs: object) -> None:
        torch.backends.quantized.engine = self.before.pop()

    def copy(self, network: nn.Module, memo: dict[int, Any]) -> nn.Module:
        own = network.__dict__.pop("__deepcopy__")  # else this would call itself
        try:
            with quantized_engine(self.name):
                copied = copy.deepcopy(network, memo)
        finally:
            network.__dict__["__deepcopy__"] = own
        bind_to_engine(copied, self.name)
        return copied


def bind_to_engine(network: nn.Module, name: str) -> None:
    """Let an int8 network run and be copied under its engine, whichever is set.

    Packed weights bring their own kernels, but a copy packs them anew for the engine that is set, and sums, pooling and the
    like ask it; only those of qnnpack round differently. x86 is what is set on the machines that have it.
    """
    engine = _OwnEngine(name)
    if name != "x86":
        network.__dict__["__deepcopy__"] = partial(engine.copy, network)
    is_hooked = any(
        isinstance(getattr(hook, "__self__", 0), _OwnEngine) for hook in network._forward_pre_hooks.values()
    )
    if name == "qnnpack" and not is_hooked:
        network.register_forward_pre_hook(engine.enter, prepend=True)
        network.register_forward_hook(engine.leave, always_call=True)


@contextmanager
def no_deprecations() -> Iterator[None]:
    """Keep the warnings of torch.ao from users, who can do nothing about them; warnings of their own code still show.

    They are told apart by the module that they are raised for: torch's own files, and ours that call them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(torch|dlkit\.quantize)\..*")
        # said once per process, and by the code that torch.fx writes where that comes first
        warnings.filterwarnings("ignore", message=r"torch\.quantize_per_tensor, torch\.quantize_per_channel and other")
        yield


def forget_networks() -> None:
    """Let go of every network whose device torch.ao asked for: it keeps them all, in a cache without end."""
    clear = getattr(assert_and_get_unique_device, "cache_clear", None)
    if clear is not None:
        clear()
