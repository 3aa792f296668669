"""The arithmetic of each task: what a batch adds to its running metric, what is said of a whole split, and what outputs mean
as probabilities. dlkit/tasks.py has the names. A further task is a class here and a row there.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from dlkit.core.data import IGNORED, DataInfo, restore_targets
from dlkit.core.scoring.label_scores import average_precisions, decide_labels, f1_of, label_counts
from dlkit.core.scoring.map_scores import areas_of, map_metrics, pixel_counts
from dlkit.tasks import TRAITS, TaskName, TaskTraits


@dataclass(frozen=True)
class TaskScores(ABC):
    """How outputs (N, ...) are judged by targets. `info` tells units and thresholds; `ignore_index` a label that is not counted."""

    info: DataInfo | None = None
    ignore_index: int | None = None
    traits: ClassVar[TaskTraits]

    @abstractmethod
    def ratio(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Returns what a batch adds to the numerator and the denominator of the running metric."""

    @abstractmethod
    def summarize(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Returns the metrics of a whole split, without the loss."""

    @abstractmethod
    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """Returns the probabilities of classes along dimension 1; None where outputs are no logits of classes."""

    def logits(self, probabilities: Tensor) -> Tensor:
        """Returns outputs that have such probabilities, the inverse of `probabilities`."""
        return probabilities.log()

    def decisions(self, outputs: Tensor) -> Tensor | None:
        """Returns what is decided, to be compared with targets; None where nothing is."""
        return None

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Returns whole numbers that add up over batches, from which `judge` tells the metrics; None where these need all outputs."""
        return None

    def judge(self, counts: Tensor) -> dict[str, float]:
        """Returns the metrics of a whole split from its counts."""
        raise NotImplementedError

    def agreement(self, outputs: Tensor, others: Tensor) -> float | None:
        """Returns the share of samples, or of labels of all samples, for which the same is decided; None where nothing is."""
        one, other = self.decisions(outputs), self.decisions(others)
        return None if one is None or other is None else (one == other).double().mean().item()


class Classification(TaskScores):
    """One class per sample: logits (N, C), targets int64 (N,), or float (N, C) where samples were mixed."""

    traits = TRAITS["classification"]

    def ratio(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Returns how many are right, and how many are counted."""
        labels = targets.argmax(1) if targets.is_floating_point() else targets
        is_right = outputs.argmax(1) == labels
        if self.ignore_index is None:
            return is_right.sum(), float(len(targets))
        is_counted = labels != self.ignore_index
        return (is_right & is_counted).sum(), is_counted.sum()

    def summarize(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Returns `accuracy`, and `top5` where there are more than five classes."""
        if self.ignore_index is not None:
            kept = targets != self.ignore_index
            outputs, targets = outputs[kept], targets[kept]
        metrics = {"accuracy": (outputs.argmax(1) == targets).double().mean().item()}
        if outputs.shape[1] > 5:
            top5 = outputs.topk(5, dim=1).indices
            metrics["top5"] = (top5 == targets[:, None]).any(1).double().mean().item()
        return metrics

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns the softmax, (N, C)."""
        return outputs.softmax(1)

    def decisions(self, outputs: Tensor) -> Tensor:
        """Returns the class of each sample, (N,)."""
        return outputs.argmax(1)


class Multilabel(TaskScores):
    """Any number of labels per sample: logits (N, L), targets float (N, L) of 0 and 1."""

    traits = TRAITS["multilabel"]

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The probability from which on each label counts as found; None is 0.5 for all."""
        return self.info.thresholds if self.info else None

    def ratio(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Returns both sides of the F1 over all decisions: 2 TP, and 2 TP + FP + FN."""
        found, true = decide_labels(outputs, self.thresholds), targets >= 0.5
        return 2 * (found & true).sum(), found.sum() + true.sum()

    def summarize(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Returns `map`, the mean of average precision over labels that occur, `micro_f1` over all decisions, `macro_f1`, the mean
        of F1 over labels that occur, and `subset_accuracy`, the share of samples of which every label is right.
        """
        precisions, occurs = average_precisions(outputs, targets), targets.sum(0) > 0
        found = decide_labels(outputs, self.thresholds)
        counts = label_counts(found, targets)
        return {
            "map": precisions[occurs].mean().item(),
            "micro_f1": f1_of(counts.sum(1)).item(),
            "macro_f1": f1_of(counts)[occurs].mean().item(),
            "subset_accuracy": (found == (targets > 0)).all(1).double().mean().item(),
        }

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns those of each label's presence and absence, (N, 2, L)."""
        present = outputs.sigmoid()
        return torch.stack([1 - present, present], dim=1)

    def logits(self, probabilities: Tensor) -> Tensor:
        """Returns them (N, L)."""
        absent, present = probabilities.unbind(1)
        return present.log() - absent.log()

    def decisions(self, outputs: Tensor) -> Tensor:
        """Returns which labels each sample has, bool (N, L)."""
        return decide_labels(outputs, self.thresholds)


class Regression(TaskScores):
    """Numbers: outputs and targets float (N, num_outputs), standardized where `info` says so."""

    traits = TRAITS["regression"]

    def ratio(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Returns the sum of absolute errors in the units of the data, each sample's a mean over its outputs, and samples."""
        errors = (outputs - targets).abs()
        if self.info is not None and self.info.target_std is not None:
            errors = errors * _units(self.info.target_std, errors.device)
        return errors.mean() * len(targets), float(len(targets))

    def summarize(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Returns `mse`, `rmse`, `mae` over all outputs, and `r2`, the share of variance explained, averaged over outputs."""
        outputs, targets = self.in_own_units(outputs), self.in_own_units(targets)
        squared = (outputs - targets).square()
        variance = (targets - targets.mean(0)).square().sum(0)
        r2 = (1 - squared.sum(0) / variance.clamp(min=torch.finfo(torch.float64).tiny)).mean()
        mse = squared.mean()
        return {
            "mse": mse.item(),
            "rmse": mse.sqrt().item(),
            "mae": (outputs - targets).abs().mean().item(),
            "r2": r2.item(),
        }

    def in_own_units(self, values: Tensor) -> Tensor:
        """Returns outputs or targets in the units of the data, on the CPU, float64."""
        return restore_targets(values, self.info) if self.info else values.double()

    def probabilities(self, outputs: Tensor) -> None:
        """There are none."""


class Segmentation(TaskScores):
    """A class for each pixel: logits (N, C, H, W), targets int64 (N, H, W), where IGNORED is not counted."""

    traits = TRAITS["segmentation"]

    def ratio(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Returns how many pixels are right, and how many are counted."""
        is_right = outputs.argmax(1) == targets  # which no label that is ignored is
        return is_right.sum(), (targets != IGNORED).sum()

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns counts of pixels, int64 (C, C), with true classes as rows and predicted ones as columns."""
        return pixel_counts(outputs.argmax(1), targets, outputs.shape[1])

    def judge(self, counts: Tensor) -> dict[str, float]:
        """Returns `miou` and `dice`, means over classes that are there or are predicted somewhere, and `pixel_accuracy`."""
        return {name: value.item() for name, value in map_metrics(areas_of(counts)).items()}

    def summarize(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Returns what `judge` does."""
        return self.judge(self.counts(outputs, targets))

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns the softmax of each pixel, (N, C, H, W)."""
        return outputs.softmax(1)

    def decisions(self, outputs: Tensor) -> Tensor:
        """Returns the class of each pixel, (N, H, W)."""
        return outputs.argmax(1)


@lru_cache(maxsize=16)
def _units(std: tuple[float, ...], device: torch.device) -> Tensor:
    # remembered, since copying numbers to a GPU for every batch would make it wait
    return torch.tensor(std, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


SCORES: Mapping[TaskName, type[TaskScores]] = {
    kind.traits.name: kind for kind in (Classification, Multilabel, Regression, Segmentation)
}
