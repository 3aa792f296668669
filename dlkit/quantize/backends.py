"""Which engine runs int8 on this machine, and what its CPU does with eight bits."""

import platform

import torch

from dlkit.errors import UsageError
from dlkit.quantize.recipe import Backend, Reduce

BACKENDS: tuple[Backend, ...] = ("x86", "fbgemm", "onednn", "qnnpack")


def pick_backend(name: str) -> Backend:
    """The backend of that name; `auto` is x86 on Intel and AMD, and qnnpack on ARM. Raises UsageError if it is not there."""
    here = [backend for backend in BACKENDS if backend in torch.backends.quantized.supported_engines]
    if name == "auto":
        name = "x86" if platform.machine().lower() in {"x86_64", "amd64", "i686"} else "qnnpack"
    found = next((backend for backend in here if backend == name), None)
    if found is None:
        raise UsageError(f"no int8 backend {name!r} on this machine; it has {', '.join(here) or 'none'}")
    return found


def has_vnni() -> bool:
    """Whether the CPU multiplies bytes into 32-bit sums, so that two products cannot overflow 16 bits."""
    return bool(torch.cpu._is_vnni_supported())


def pick_reduce(backend: Backend) -> Reduce:
    """What gives up a bit so that no kernel saturates.

    fbgemm's depthwise kernels add pairs of products in 16 bits on every x86 CPU, with VNNI or without, and x86 runs them too;
    onednn does so without VNNI only; qnnpack never.
    """
    if backend in {"x86", "fbgemm"} or (backend == "onednn" and not has_vnni()):
        return "weights"
    return "none"
