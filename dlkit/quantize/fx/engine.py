"""What torch.ao keeps globally, set for the length of a with-block: the engine and the filters of warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
    """Hooks that run a network under an engine and put back the one that was, also after an exception."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.before: list[str] = []

    def enter(self, module: nn.Module, inputs: object) -> None:
        self.before.append(torch.backends.quantized.engine)
        torch.backends.quantized.engine = self.name

    def leave(self, module: nn.Module, inputs: object, outputs: object) -> None:
        torch.backends.quantized.engine = self.before.pop()


def run_under_own_engine(network: nn.Module, name: str) -> None:
    """Let a network run as on the machines that its engine is for.

    Packed weights bring their own kernels, but sums, pooling and the like ask the engine; only qnnpack's round differently.
    """
    if name == "qnnpack":
        engine = _OwnEngine(name)
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
