"""How outputs are scored: by a loss, in a precision, and by running sums that stay on the device until someone looks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlkit.core.data import DataInfo, restore_targets
from dlkit.core.distributed import ALONE, World
from dlkit.core.scoring.losses import WeightedLoss
from dlkit.core.scoring.precision import Precision


@dataclass(frozen=True)
class Scoring:
    """How outputs are computed and scored, apart from the model; `info` tells the units of standardized targets."""

    loss: WeightedLoss
    precision: Precision
    is_classification: bool
    channels_last: bool = False
    info: DataInfo | None = None

    def new_meter(self) -> "Meter":
        """Returns an empty meter for these scores."""
        unit = self.info.target_std if self.info else None
        return Meter(
            self.precision.device,
            is_classification=self.is_classification,
            ignore_index=self.loss.ignore_index,
            unit=unit,
        )

    def in_own_units(self, values: Tensor) -> Tensor:
        """Returns outputs or targets of a regression, on the CPU, in the units of the data, float64."""
        return restore_targets(values, self.info) if self.info else values.double()

    def arrange(self, inputs: Tensor) -> Tensor:
        """Inputs in the memory layout that the model was put in."""
        if self.channels_last and inputs.ndim == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs


class Meter:
    """Means over samples seen so far; reading them waits for the device.

    `sums` are those of `sums_of`, float64 on the device (float32 where it has none). `unit` is what 1 stands for in each output,
    where targets are standardized.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        is_classification: bool,
        ignore_index: int | None = None,
        unit: tuple[float, ...] | None = None,
    ) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(4, dtype=dtype, device=device)
        self.is_classification = is_classification
        self.ignore_index = ignore_index
        self.unit = torch.tensor(unit, dtype=dtype, device=device) if unit else None

    @torch.no_grad()
    def sums_of(self, outputs: Tensor, targets: Tensor, loss: Tensor, weight: Tensor | float) -> Tensor:
        """Returns what a batch adds: weighted loss, weight, correct ones (or the absolute error), samples without the
        ignored ones: (4,).
        """
        sums = torch.zeros_like(self.sums)
        sums[0] = loss.detach().to(sums.dtype) * weight
        sums[1] = weight
        if self.is_classification:
            labels = targets.argmax(1) if targets.is_floating_point() else targets
            is_right = outputs.detach().argmax(1) == labels
            if self.ignore_index is not None:
                is_right = is_right & (labels != self.ignore_index)
            sums[2] = is_right.sum()
        else:
            errors = (outputs.detach() - targets).abs()
            sums[2] = (errors if self.unit is None else errors * self.unit).mean() * len(targets)
        sums[3] = len(targets) if self.ignore_index is None else (targets != self.ignore_index).sum()
        return sums

    def add(self, outputs: Tensor, targets: Tensor, loss: Tensor, weight: Tensor | float) -> None:
        """Take in a batch: its outputs, targets, mean loss and the weight of that mean."""
        self.add_sums(self.sums_of(outputs, targets, loss, weight))

    @torch.no_grad()
    def add_sums(self, sums: Tensor) -> None:
        """Add what `sums_of` returned, here or in another process."""
        self.sums += sums

    def read(self, world: World = ALONE) -> dict[str, float]:
        """Returns `loss` and `accuracy` (`mae` for regression) over all processes; NaN before the first batch."""
        loss_sum, weight, rest, num_samples = world.sum(self.sums.clone()).tolist()
        second = "accuracy" if self.is_classification else "mae"
        return {
            "loss": loss_sum / weight if weight else math.nan,
            second: rest / num_samples if num_samples else math.nan,
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
