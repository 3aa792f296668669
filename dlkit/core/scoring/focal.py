"""Losses that look away from what is easy: focal, for classes and for labels, and asymmetric, for labels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlkit.core.components import ComponentError
from dlkit.tasks import TaskName


class FocalLoss(nn.Module):
    """Cross-entropy, each term scaled by (1 - p) ** gamma, with p the probability of what is true (Lin et al. 2017, arXiv 1708.02002).

    Of classes (logits (N, C)) the mean is over samples, weighted by `weight` of each sample's class; of labels (logits (N, L)) over
    all decisions, of which `weight` scales a label's positives. With `alpha`, for labels alone, positives count alpha and negatives
    1 - alpha, as in torchvision's sigmoid_focal_loss.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = None,
        ignore_index: int = -100,
        *,
        task: TaskName = "classification",
        weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_task("focal", task, ("classification", "multilabel", "segmentation"))
        self.gamma, self.alpha, self.ignore_index = not_negative("gamma", gamma), alpha, ignore_index
        if alpha is not None and task != "multilabel":
            raise ComponentError("belongs to multilabel; of classes set class_weights", option="alpha")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ComponentError(f"must lie between 0 and 1, got {alpha}", option="alpha")
        self.is_of_labels = task == "multilabel"
        self.weight: Tensor | None
        self.register_buffer("weight", weight)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean. `targets` are int64 (N,), probabilities of classes (N, C), or 0 and 1 for each label (N, L)."""
        if self.is_of_labels:
            return self._of_labels(outputs, targets)
        logs = outputs.log_softmax(1)
        missing = (-torch.expm1(logs)).clamp(min=torch.finfo(logs.dtype).tiny)
        terms = -(missing**self.gamma) * logs
        if targets.is_floating_point():
            return (targets * (terms if self.weight is None else terms * self.weight)).sum(1).mean()
        return F.nll_loss(-terms, targets, self.weight, ignore_index=self.ignore_index)

    def _of_labels(self, outputs: Tensor, targets: Tensor) -> Tensor:
        present, absent = F.logsigmoid(outputs), F.logsigmoid(-outputs)
        positive = -(self.gamma * absent).exp() * present * targets
        negative = -(self.gamma * present).exp() * absent * (1 - targets)
        if self.weight is not None:
            positive = positive * self.weight
        if self.alpha is not None:
            positive, negative = self.alpha * positive, (1 - self.alpha) * negative
        return (positive + negative).mean()


class AsymmetricLoss(nn.Module):
    """Binary cross-entropy of labels that looks away from easy negatives further than from easy positives.

    Positives are scaled by (1 - p) ** gamma_pos, negatives by q ** gamma_neg, with q = max(p - clip, 0) in place of p: a negative with
    a probability of at most `clip` costs nothing. Source: Ridnik et al. 2021 (arXiv 2009.14119), whose sum is a mean here.
    """

    def __init__(
        self, gamma_neg: float = 4.0, gamma_pos: float = 0.0, clip: float = 0.05, *, task: TaskName = "multilabel"
    ) -> None:
        super().__init__()
        check_task("asymmetric", task, ("multilabel",))
        self.gamma_neg, self.gamma_pos = not_negative("gamma_neg", gamma_neg), not_negative("gamma_pos", gamma_pos)
        if not 0 <= clip < 1:
            raise ComponentError(f"must be at least 0 and less than 1, got {clip}", option="clip")
        self.clip = clip

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean over logits (N, L) and targets (N, L) of 0 and 1."""
        present, absent = F.logsigmoid(outputs), F.logsigmoid(-outputs)
        positive = -(self.gamma_pos * absent).exp() * present * targets
        if self.clip:
            shifted = (present.exp() - self.clip).clamp(min=0)
            scale = shifted.clamp(min=torch.finfo(shifted.dtype).tiny) ** self.gamma_neg
            negative = -scale * torch.log1p(-shifted)
        else:
            negative = -(self.gamma_neg * present).exp() * absent
        return (positive + negative * (1 - targets)).mean()


def check_task(name: str, task: TaskName, taken: tuple[TaskName, ...]) -> None:
    """Raise ComponentError for a loss of other tasks."""
    if task not in taken:
        words = " and ".join(filter(None, (", ".join(taken[:-1]), taken[-1])))
        raise ComponentError(f"{name} is a loss for {words}; the task is {task}")


def not_negative(name: str, value: float) -> float:
    """Returns the value. Raises ComponentError at the option of this name for one below 0."""
    if not value >= 0:
        raise ComponentError(f"must be at least 0, got {value}", option=name)
    return value
