"""How a model is trained by several processes: forward passes whose gradients come out as the mean over all of them.

Names in state dicts stay as they are: the wrapper around a model is used for forward passes of training only.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dlkit.core.distributed.batch_norm import is_synced
from dlkit.core.distributed.world import World
from dlkit.errors import UsageError

# the name changed in torch 2.14
_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)
UNUSED = "Expected to have finished reduction in the prior iteration"


class Replica(Protocol):
    """What the loop needs of a model in training."""

    @property
    def forward(self) -> Callable[[Tensor], Any]:
        """The forward pass."""

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[object]:
        """A context for forward and backward of a micro-batch; gradients are exchanged in the last one of a window only."""


@dataclass(frozen=True)
class Single:
    """A model that one process trains."""

    model: nn.Module

    @property
    def forward(self) -> Callable[[Tensor], Any]:
        """The model's own."""
        return self.model

    def micro_batch(self, *, is_last: bool) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()


class Replicated:
    """A model that every process holds whole, by torch's DistributedDataParallel. Weights become those of rank 0.

    Buffers are not exchanged at each step; see `average_statistics`.
    """

    def __init__(self, model: nn.Module, device: torch.device, *, find_unused: bool) -> None:
        options: dict[str, Any] = {_BUFFERS: False}
        self._ddp = DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=find_unused,
            gradient_as_bucket_view=True,
            **options,
        )

    @property
    def forward(self) -> Callable[[Tensor], Any]:
        """The forward pass that prepares the exchange of gradients."""
        return self._ddp

    @contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        """Without exchange, unless it is the last."""
        try:
            with nullcontext() if is_last else self._ddp.no_sync():
                yield
        except RuntimeError as error:
            if UNUSED not in str(error):
                raise
            raise UsageError(
                "some parameters got no gradient from a batch, so the exchange between processes is incomplete: "
                "set runtime.find_unused_parameters=true, or freeze what is not used by optimizer.groups"
            ) from error


@contextmanager
def idle(model: nn.Module) -> Iterator[None]:
    """A model for a batch that is not counted: batch norms take it by their running statistics and learn nothing of it."""
    norms = [norm for norm in model.modules() if isinstance(norm, nn.modules.batchnorm._NormBase) and norm.training]
    for norm in norms:
        if not is_synced(norm):
            norm.eval()
        else:
            norm.is_idle = True  # type: ignore[assignment]  # the others wait for it all the same
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True
            if is_synced(norm):
                norm.is_idle = False  # type: ignore[assignment]


@torch.no_grad()
def average_statistics(model: nn.Module, world: World) -> None:
    """Make the buffers of all processes the same: running statistics of norms the mean over processes, others rank 0's."""
    if world.is_alone:
        return
    averaged = {id(buffer) for buffer in running_statistics(model)}
    for buffer in model.buffers():
        if id(buffer) in averaged:
            world.sum(buffer).div_(world.size)
        else:
            torch.distributed.broadcast(buffer, src=0)


def running_statistics(model: nn.Module) -> list[Tensor]:
    """The floating-point buffers of batch and instance norms."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False) if buffer.is_floating_point()]
