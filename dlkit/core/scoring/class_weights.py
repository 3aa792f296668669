"""The weights of classes and labels: given by name or in a list, or counted on the training targets.

Losses of classes weigh each sample by its class, and their mean is over these weights. Losses of labels, binary cross-entropy and
focal loss, multiply the terms of a label's positives, and their mean stays one over all decisions (torch's `pos_weight`).
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from dlkit.core.components import Builder, ComponentError
from dlkit.core.data import DataInfo
from dlkit.core.scoring.focal import FocalLoss
from dlkit.core.scoring.map_losses import LossSum
from dlkit.suggestions import did_you_mean
from dlkit.tasks import TaskName

Asked = Literal["balanced"] | list[float] | Mapping[str, float]


def weight_argument(builder: Builder, name: str, task: TaskName) -> tuple[str, bool]:
    """Returns the argument of a loss that takes weights of classes, and whether they scale positives alone.

    Raises ComponentError for a loss without one.
    """
    if isinstance(builder, type) and issubclass(builder, nn.CrossEntropyLoss | nn.NLLLoss):
        return "weight", False
    if builder is LossSum:
        return "weight", False
    if builder is FocalLoss:
        return "weight", task == "multilabel"
    if builder is nn.BCEWithLogitsLoss:
        return "pos_weight", True
    raise ComponentError(
        f"class_weights belong to cross_entropy, focal, bce and sum, not to {name}", option="class_weights"
    )


def class_weights(asked: Asked, info: DataInfo, targets: Callable[[], Tensor], *, of_positives: bool) -> Tensor:
    """Returns a weight for each class or label, float32. `targets` returns those to count for `balanced`, of maps the pixels of each class,
    (C,).

    Balanced weights of classes are inverse frequencies with mean 1; those of positives are negatives per positive, 1 for a label that
    never occurs. Raises ComponentError for another number of weights, and for names that are no classes.
    """
    if asked == "balanced":
        return _balanced(targets(), info, of_positives=of_positives)
    if isinstance(asked, Mapping):
        return _by_name(asked, info)
    if len(asked) != info.num_outputs:
        raise ComponentError(
            f"{len(asked)} class weights for {info.num_outputs} {_plural(info)}", option="class_weights"
        )
    return _checked(torch.tensor(asked, dtype=torch.float32))


def _checked(weights: Tensor) -> Tensor:
    if not weights.any():
        raise ComponentError("all weights are 0; at least one class must count", option="class_weights")
    return weights


def _balanced(targets: Tensor, info: DataInfo, *, of_positives: bool) -> Tensor:
    if info.task == "segmentation":
        counts = targets.double()
        inverse = torch.where(counts > 0, 1 / counts.clamp(min=1), 0)
        return (inverse / inverse[counts > 0].mean()).float()
    is_of_labels = targets.is_floating_point()
    counts = (targets.sum(0) if is_of_labels else torch.bincount(targets, minlength=info.num_outputs)).double()
    if of_positives:
        return torch.where(counts > 0, (len(targets) - counts) / counts.clamp(min=1), 1).float()
    inverse = 1 / counts.clamp(min=1)
    return (inverse / inverse.mean()).float()


def _by_name(asked: Mapping[str, float], info: DataInfo) -> Tensor:
    names = info.class_names
    if unknown := [name for name in asked if name not in names]:
        hint = (
            did_you_mean(unknown[0], names) or f" There are: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
        )
        raise ComponentError(f"{unknown[0]!r} is none of the {_plural(info)}.{hint}", option="class_weights")
    return _checked(torch.tensor([float(asked.get(name, 1.0)) for name in names]))


def _plural(info: DataInfo) -> str:
    return "labels" if info.task == "multilabel" else "classes"
