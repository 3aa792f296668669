"""TODO."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlkit.core.scoring.losses import WeightedLoss
from dlkit.core.scoring.meters import Meter
from dlkit.core.scoring.precision import Precision


@dataclass(frozen=True)
class Scoring:
    """How outputs are computed and judged, apart from the model."""

    loss: WeightedLoss
    precision: Precision
    is_classification: bool
    channels_last: bool = False

    def new_meter(self) -> Meter:
        """An empty meter for these scores."""
        return Meter(self.precision.device, is_classification=self.is_classification)

    def arrange(self, inputs: Tensor) -> Tensor:
        """Inputs in the memory layout that the model was put in."""
        if self.channels_last and inputs.ndim == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs
