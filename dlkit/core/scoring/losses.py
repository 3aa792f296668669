"""Losses by name, with the weight that each batch carries.

A window of micro-batches of unequal size has the gradient of the one big batch only if each mean is weighted by what it is a
mean over: samples, or for class weights and ignored targets the sum of the weights. So a loss returns both.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlkit.config import Loss as LossSection
from dlkit.core.components import Builder, ComponentError, accepted, check_options, is_import_path, resolve
from dlkit.core.data import IGNORED, DataInfo
from dlkit.core.models import AuxiliaryOutputs
from dlkit.core.scoring.class_weights import class_weights, weight_argument
from dlkit.core.scoring.map_losses import NLLLossOfMaps
from dlkit.registry import INJECTED
from dlkit.tasks import TRAITS

_TAKES_CLASS_INDICES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)
_TAKES_MAPS = (nn.CrossEntropyLoss, nn.NLLLoss)


@dataclass(frozen=True)
class WeightedLoss:
    """A loss that also returns its weight. `num_classes` is set where class indices have to become one-hot rows."""

    function: Callable[[Tensor, Tensor], Tensor]
    name: str
    num_classes: int | None = None
    class_weights: Tensor | None = None
    ignore_index: int | None = None

    def __call__(self, outputs: Tensor | AuxiliaryOutputs, targets: Tensor) -> tuple[Tensor, Tensor | float]:
        """Returns the mean over the batch, and the weight of that mean (the number of samples, unless classes
        have weights or labels are ignored). Of outputs of two heads, both losses are in it.
        """
        if isinstance(outputs, AuxiliaryOutputs):
            loss, weight = self(outputs.main, targets)
            return loss + outputs.weight * self(outputs.auxiliary, targets)[0], weight
        if self.num_classes is not None and not targets.is_floating_point():
            targets = F.one_hot(targets, self.num_classes).to(outputs.dtype)
        elif targets.is_floating_point():  # torch's binary cross-entropy rounds to the precision of its targets
            targets = targets.to(torch.promote_types(targets.dtype, outputs.dtype))
        if self._counts_nothing(targets):
            return outputs.sum() * 0.0, 0.0  # torch's mean over none is NaN, and so is its gradient
        return self.function(outputs, targets), self._weight(targets)

    def _counts_nothing(self, targets: Tensor) -> bool:
        """Whether all targets are ignored, or of classes without weight; looks at the device only where that may be."""
        if targets.is_floating_point():
            return False
        if self._has_weightless:
            return float(self._weight(targets)) == 0
        return self.ignore_index is not None and bool((targets == self.ignore_index).all())

    @cached_property
    def _has_weightless(self) -> bool:
        return self.class_weights is not None and bool((self.class_weights == 0).any())

    def mean_of(self, values: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean of one number per sample (N,), each of which weighs as it does in the loss."""
        if targets.is_floating_point() or (self.class_weights is None and self.ignore_index is None):
            return values.mean()
        is_counted = torch.ones_like(targets, dtype=torch.bool)
        if self.ignore_index is not None:
            is_counted = targets != self.ignore_index
        weights = is_counted.to(values.dtype)
        if self.class_weights is not None:
            weights = weights * self.class_weights[targets.where(is_counted, 0)]
        return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def _weight(self, targets: Tensor) -> Tensor | float:
        if targets.is_floating_point():
            return float(len(targets))
        kept = _counted(targets, self.ignore_index)
        if self.class_weights is not None:
            # ratios of these sums weigh gradients, where float32 would lose what the loss itself keeps
            dtype = torch.float32 if targets.device.type == "mps" else torch.float64
            return self.class_weights[kept].sum(dtype=dtype)
        return float(len(kept))


def build_loss(
    section: LossSection, info: DataInfo, *, targets: Callable[[], Tensor], device: torch.device
) -> WeightedLoss:
    """Returns the loss of a config. `targets` returns the training targets when class weights have to be counted.

    Raises ComponentError for unknown names and options, and for a loss that does not suit the task.
    """
    name = TRAITS[info.task].default_loss if section.name == "auto" else section.name
    builder = resolve("losses", name)
    if TRAITS[info.task].has_maps and builder is nn.NLLLoss:
        builder = NLLLossOfMaps
    options: dict[str, Any] = dict(section.options)
    ignored = _ignored_label(section, info)
    if TRAITS[info.task].has_maps:  # whose masks have one number for what is ignored, whatever their files have
        ignored = IGNORED
        options = {key: value for key, value in options.items() if key != "ignore_index"}
        options |= accepted(builder, {"ignore_index": ignored})
    weights = None
    if section.class_weights is not None:
        argument, of_positives = weight_argument(builder, name, info.task)
        has_maps = TRAITS[info.task].has_maps
        found = targets if has_maps else lambda: _counted(targets(), ignored)
        weights = class_weights(section.class_weights, info, found, of_positives=of_positives).to(device)
        options[argument] = weights
        weights = None if of_positives else weights
    if not isinstance(builder, type):
        # a plain function of (outputs, targets), its options bound by keyword
        check_options(builder, options, injected=_leading_arguments(builder))
        return WeightedLoss(lambda outputs, targets: builder(outputs, targets, **options), name, ignore_index=ignored)
    asked = {key: value for key, value in options.items() if key in section.options}
    check_options(builder, asked, injected=INJECTED["losses"], also_known=("class_weights",))
    if builder is nn.KLDivLoss:
        options["reduction"] = "batchmean"  # its `mean` divides by elements and is not the divergence, as torch warns
    known = {} if is_import_path(name) else accepted(builder, {"task": info.task})
    module = builder(**options, **known).to(device)
    return replace(_wrap(module, name, info, class_weights=weights), ignore_index=ignored)


def _ignored_label(section: LossSection, info: DataInfo) -> int | None:
    value = section.options.get("ignore_index")
    if value is not None and info.task == "multilabel":
        raise ComponentError(
            "leaves out classes; with several labels there is none to leave out", option="ignore_index"
        )
    if value is not None and type(value) is not int:
        raise ComponentError(f"must be a whole number, the label to leave out, not {value!r}", option="ignore_index")
    return value


def _counted(targets: Tensor, ignored: int | None) -> Tensor:
    return targets if ignored is None else targets[targets != ignored]


def _leading_arguments(builder: Builder) -> tuple[str, ...]:
    return tuple(inspect.signature(builder).parameters)[:2]


def _wrap(module: nn.Module, name: str, info: DataInfo, *, class_weights: Tensor | None) -> WeightedLoss:
    wants_indices = isinstance(module, _TAKES_CLASS_INDICES)
    if wants_indices and info.task not in ("classification", "segmentation"):
        targets = "numbers" if info.task == "regression" else "0 or 1 for each label"
        raise ComponentError(
            f"{name} needs class labels, but the targets are {targets}; use {TRAITS[info.task].default_loss}, or set "
            "task: classification"
        )
    is_torch_loss = type(module).__module__.startswith("torch.nn")
    if info.task == "segmentation" and is_torch_loss and not isinstance(module, _TAKES_MAPS):
        raise ComponentError(
            f"{name} is no loss of maps of classes; there are cross_entropy, focal and dice, and sums of them"
        )
    one_hot = info.task == "classification" and is_torch_loss and not wants_indices
    return WeightedLoss(
        module,
        name,
        num_classes=info.num_outputs if one_hot else None,
        class_weights=class_weights,
    )
