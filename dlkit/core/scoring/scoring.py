"""How outputs are scored: by a loss, in a precision, and by running sums that stay on the device until someone looks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlkit.core.data import DataInfo
from dlkit.core.distributed import ALONE, World
from dlkit.core.scoring.losses import WeightedLoss
from dlkit.core.scoring.precision import Precision
from dlkit.core.scoring.task_scores import SCORES, TaskScores
from dlkit.tasks import TaskName


@dataclass(frozen=True)
class Scoring:
    """How outputs are computed and scored, apart from the model; `info` tells the units of standardized targets, and thresholds."""

    loss: WeightedLoss
    precision: Precision
    task: TaskName
    channels_last: bool = False
    info: DataInfo | None = None

    @property
    def scores(self) -> TaskScores:
        """The arithmetic of the task."""
        return SCORES[self.task](self.info, self.loss.ignore_index)

    def new_meter(self) -> "Meter":
        """Returns an empty meter for these scores."""
        return Meter(self.precision.device, self.scores)

    def arrange(self, inputs: Tensor) -> Tensor:
        """Inputs in the memory layout that the model was put in."""
        if self.channels_last and inputs.ndim == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs


class Meter:
    """The loss and the task's running metric over the samples seen so far; reading them waits for the device.

    `sums` are those of `sums_of`, float64 on the device (float32 where it has none).
    """

    def __init__(self, device: torch.device, scores: TaskScores) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(4, dtype=dtype, device=device)
        self.scores = scores

    @torch.no_grad()
    def sums_of(self, outputs: Tensor, targets: Tensor, loss: Tensor, weight: Tensor | float) -> Tensor:
        """Returns what a batch adds: weighted loss, weight, numerator and denominator of the running metric: (4,)."""
        sums = torch.zeros_like(self.sums)
        sums[0] = loss.detach().to(sums.dtype) * weight
        sums[1] = weight
        sums[2], sums[3] = self.scores.ratio(outputs.detach(), targets)
        return sums

    def add(self, outputs: Tensor, targets: Tensor, loss: Tensor, weight: Tensor | float) -> None:
        """Take in a batch: its outputs, targets, mean loss and the weight of that mean."""
        self.add_sums(self.sums_of(outputs, targets, loss, weight))

    @torch.no_grad()
    def add_sums(self, sums: Tensor) -> None:
        """Add what `sums_of` returned, here or in another process."""
        self.sums += sums

    def read(self, world: World = ALONE) -> dict[str, float]:
        """Returns `loss` and the task's running metric over all processes; NaN before the first batch."""
        loss_sum, weight, numerator, denominator = world.sum(self.sums.clone()).tolist()
        return {
            "loss": loss_sum / weight if weight else math.nan,
            self.scores.traits.running: numerator / denominator if denominator else math.nan,
        }

    def reset(self) -> None:
        """Set all sums to zero."""
        self.sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Returns the sums, for a checkpoint in the middle of an epoch."""
        return {"sums": self.sums[:3].cpu().clone(), "num_samples": int(self.sums[3])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.sums[:3].copy_(state["sums"])
        self.sums[3] = int(state["num_samples"])
