"""Losses of maps of classes: Dice, and sums of several losses."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.components import (
    Builder,
    ComponentError,
    UnknownOption,
    accepted,
    check_options,
    is_import_path,
    resolve,
)
from dlkit.core.data import IGNORED
from dlkit.core.scoring.focal import FocalLoss, check_task, not_negative
from dlkit.registry import INJECTED
from dlkit.tasks import TaskName


class DiceLoss(nn.Module):
    """One minus the Dice of each class, from probabilities, as the mean over the classes of a picture, and then over pictures.

    A picture weighs as many as the pixels of it that count, so that batches add up to the mean of all; with `weight`, of each class, as
    these pixels do in cross-entropy. `smooth` is added above and below, so that a class that is neither there nor predicted costs nothing.
    Source: Milletari et al. 2016 (arXiv 1606.04797), whose squares are plain sums here.
    """

    def __init__(
        self,
        smooth: float = 1.0,
        ignore_index: int = IGNORED,
        *,
        task: TaskName = "segmentation",
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_task("dice", task, ("segmentation",))
        self.smooth, self.ignore_index = not_negative("smooth", smooth), ignore_index
        self.weight: Tensor | None
        self.register_buffer("weight", weight)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean over logits (N, C, H, W) and targets int64 (N, H, W)."""
        kept = (targets != self.ignore_index).to(outputs.dtype)
        labels = targets.where(targets != self.ignore_index, 0)
        predicted = outputs.softmax(1) * kept[:, None]
        true = torch.zeros_like(predicted).scatter_(1, labels[:, None], kept[:, None])
        hits, both = ((values).flatten(2).sum(2) for values in (predicted * true, predicted + true))
        losses = 1 - ((2 * hits + self.smooth) / (both + self.smooth)).mean(1)
        shares = (kept if self.weight is None else kept * self.weight[labels]).flatten(1).sum(1)
        return (losses * shares).sum() / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)


class LossSum(nn.Module):
    """A weighted sum of losses of maps: `terms` has the weight of each by name, or a mapping of `weight` and its options.

    Class weights go to all of them, in the Dice loss as weights of pictures.
    """

    def __init__(
        self,
        terms: dict[str, Any],
        ignore_index: int = IGNORED,
        *,
        task: TaskName = "segmentation",
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_task("sum", task, ("segmentation",))
        if not isinstance(terms, Mapping) or not terms:
            raise ComponentError(
                "expected losses and their weights, such as {cross_entropy: 1, dice: 1}", option="terms"
            )
        given = {"ignore_index": ignore_index, "task": task, "weight": weight}
        pairs = [_build_term(name, value, given) for name, value in terms.items()]
        self.factors = [factor for factor, _ in pairs]
        self.losses = nn.ModuleList(loss for _, loss in pairs)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the sum of the means."""
        pairs = zip(self.factors, self.losses, strict=True)
        return torch.stack([factor * loss(outputs, targets) for factor, loss in pairs]).sum()


class NLLLossOfMaps(nn.NLLLoss):
    """torch's, whose gradient knows no outputs that lie channels last."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean over log-probabilities (N, C, H, W) and targets int64 (N, H, W)."""
        return super().forward(outputs.contiguous(), targets)


def _build_term(name: str, value: Any, given: Mapping[str, Any]) -> tuple[float, nn.Module]:
    options = dict(value) if isinstance(value, Mapping) else {"weight": value}
    factor = options.pop("weight", 1.0)
    if type(factor) not in (int, float) or not factor > 0:
        raise ComponentError(f"the weight of {name} must be a number above 0, got {factor!r}", option="terms")
    builder = resolve("losses", name)
    if not is_import_path(name) and builder not in MAP_LOSSES:
        raise ComponentError(f"{name} cannot be a term; there are cross_entropy, focal and dice", option="terms")
    try:
        check_options(builder, options, injected=INJECTED["losses"] | {"ignore_index"})
    except UnknownOption as error:
        raise ComponentError(f"of {name}: {error}", option="terms") from None
    loss = builder(**options, **accepted(builder, given))
    if not isinstance(loss, nn.Module):
        raise ComponentError(f"{name} gives a {type(loss).__name__}; a term is a torch.nn.Module", option="terms")
    return float(factor), loss


MAP_LOSSES: tuple[Builder, ...] = (nn.CrossEntropyLoss, FocalLoss, DiceLoss)
