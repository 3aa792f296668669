"""What torch.ao keeps globally, set for the length of a with-block: the engine and the filters of warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def quantized_engine(name: str) -> Iterator[None]:
    """Make this the engine that packs and runs int8 weights, and put back the one that was."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


@contextmanager
def no_deprecations() -> Iterator[None]:
    """Keep the warnings of torch.ao from users, who can do nothing about them; warnings of their own code still show.

    They are told apart by the module that they are raised for: torch's own files, and ours that call them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(torch|dlkit\.quantize)\..*")
        yield
