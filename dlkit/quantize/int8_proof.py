"""Counting the int8 kernels that run: the proof that a network is not float in disguise."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dlkit.errors import UsageError
from dlkit.quantities import counted
from dlkit.quantize.coverage import LayerStatus

_SPACES = ("quantized::", "onednn::q")


def count_int8_kernels(network: nn.Module, example: Tensor) -> dict[str, int]:
    """How often each int8 kernel ran in one run over `example`, by its name in torch such as `onednn::qconv2d_pointwise`."""
    with torch.no_grad(), _Counting() as counting:
        network(example)
    return dict(counting.counts)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation on its way to a kernel; torch's profiler would, too, but writes to stderr."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.name().partition(".")[0]
        if name.startswith(_SPACES):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def require_int8(statuses: Sequence[LayerStatus], kernels: Mapping[str, int]) -> None:
    """Raise UsageError, with the reasons, for a network that has no int8 layer or ran no int8 kernel."""
    if any(row.is_int8 for row in statuses) and kernels:
        return
    reasons = Counter(row.reason for row in statuses if not row.is_int8 and row.reason)
    told = "; ".join(f"{reason} ({counted(count, 'layer')})" for reason, count in reasons.most_common(4))
    what = "no layer became int8" if not any(row.is_int8 for row in statuses) else "no int8 kernel ran"
    raise UsageError(f"the network is still float: {what}. {told or 'It has no layer that could be int8'}")
