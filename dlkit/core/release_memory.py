"""Memory back from networks that nobody needs any more."""

import ctypes
import gc
import sys
from collections.abc import Iterable

import torch
from torch import Tensor

_WORTH_IT = 64 * 2**20  # bytes; it takes some tenths of a second


def release_memory(weights: Iterable[Tensor]) -> None:
    """Give the memory of networks that were dropped back to the system, if networks are as large as these weights.

    Graphs, their nodes and modules refer to each other, so that only Python's search for cycles frees them. That one starts by
    the number of objects, however many bytes they hold. And what is freed in pieces below 32 MiB, as most layers are, glibc keeps
    for the process until it is asked to give it back.
    """
    if sum(tensor.nbytes for tensor in weights) < _WORTH_IT:
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)


def release_run() -> None:
    """Free what a run that is over has left in this process, where another follows: cycles, code compiled for its network, and the
    memory that a GPU keeps ready.
    """
    gc.collect()
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
