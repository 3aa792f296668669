"""Keeping masked weights at zero while a network trains.

Momentum and weight decay would change the zeros. Torch's own masks live in forward hooks, which break deepcopy, attention
and recurrent layers and rename parameters; here the gradient of a masked weight is zero and the mask is applied again after
every step, which leaves the network as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from dlkit.core.training import Learner, NoRecords, Records, Row, StepResult
from dlkit.prune.masks.masks import Masks, apply_masks


@contextmanager
def masked_gradients(network: nn.Module, masks: Masks) -> Iterator[None]:
    """Keep the gradients of masked weights at zero, so that they count neither in clipping nor in an optimizer's statistics."""
    handles = []
    for name, mask in masks.items():
        parameter = network.get_parameter(name)
        if parameter.requires_grad:
            masker = _masker(mask.to(parameter.device))
            handles.append(parameter.register_hook(masker))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _masker(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * mask


class MaskedRecords:
    """Records of a run that also apply the masks to the network, and to its moving average, after every step."""

    def __init__(self, masks: Masks, records: Records | None = None) -> None:
        self.masks = dict(masks)
        self.records = records or NoRecords()

    def add_step(self, learner: Learner, result: StepResult) -> None:
        """Apply the masks, then record the step."""
        device = learner.scoring.precision.device
        self.masks = {name: mask.to(device) for name, mask in self.masks.items()}
        apply_masks(learner.model, self.masks)
        if learner.ema:
            apply_masks(learner.ema.model, self.masks)
        self.records.add_step(learner, result)

    def add_epoch(self, learner: Learner, row: Row) -> None:
        """Record one epoch's metrics."""
        self.records.add_epoch(learner, row)

    def save(self, learner: Learner, *, is_best: bool = False) -> None:
        """Write a checkpoint."""
        self.records.save(learner, is_best=is_best)
