"""Memory of activations without taking any: what backward keeps, and the most that is alive at once in inference."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from dlkit.core.models import tensors_in


def measure_saved_bytes(model: nn.Module, tensors: Sequence[Tensor]) -> int:
    """Bytes that autograd saves for the backward pass, each storage once; parameters and buffers are left out."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage  # kept alive, so that no other storage takes its place in the count
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        model(*tensors)
    return sum(storage.nbytes() for storage in saved.values())


def measure_peak_bytes(model: nn.Module, tensors: Sequence[Tensor]) -> int:
    """Most bytes of inputs and activations alive at once in a forward pass without gradients.

    Memory that a kernel takes for itself while it runs is not seen.
    """
    tracker = _Liveness(model, tensors)
    with torch.no_grad(), tracker:
        model(*tensors)
    return tracker.peak_bytes


class _Liveness(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the base is untyped
    """Follows which storages are alive."""

    def __init__(self, model: nn.Module, tensors: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
        self.alive_bytes = self.peak_bytes = 0
        for tensor in tensors:
            self._take(tensor)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and take note of new storages."""
        out = op(*args, **(kwargs or {}))
        for tensor in tensors_in(out):
            self._take(tensor)
        return out

    def _take(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._seen:
            return
        self._seen.add(storage._cdata)
        self.alive_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        weakref.finalize(storage, self._release, storage._cdata, storage.nbytes())

    def _release(self, key: int, num_bytes: int) -> None:
        self._seen.discard(key)
        self.alive_bytes -= num_bytes
