"""Running sums of loss and accuracy (or mean absolute error) that stay on the device until someone looks."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Meter:
    """Means over samples seen so far. Sums are float64 on the device (float32 where it has none); reading them waits for it."""

    def __init__(self, device: torch.device, *, is_classification: bool) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(3, dtype=dtype, device=device)  # loss, its weight, correct or absolute error
        self.num_samples = 0
        self.is_classification = is_classification

    @torch.no_grad()
    def add(self, outputs: Tensor, targets: Tensor, loss: Tensor, weight: Tensor | float) -> None:
        """Take in a batch: its outputs, targets, mean loss and the weight of that mean."""
        loss = loss.detach().to(self._sums.dtype)
        self._sums[0] += loss * weight
        self._sums[1] += weight
        if self.is_classification:
            labels = targets.argmax(1) if targets.is_floating_point() else targets
            self._sums[2] += (outputs.detach().argmax(1) == labels).sum()
        else:
            self._sums[2] += (outputs.detach() - targets).abs().mean() * len(targets)
        self.num_samples += len(targets)

    def read(self) -> dict[str, float]:
        """`loss`, and `accuracy` for classification or `mae` for regression; NaN before the first batch."""
        loss_sum, weight, rest = self._sums.tolist()
        second = "accuracy" if self.is_classification else "mae"
        return {
            "loss": loss_sum / weight if weight else math.nan,
            second: rest / self.num_samples if self.num_samples else math.nan,
        }

    def reset(self) -> None:
        """Forget everything."""
        self._sums.zero_()
        self.num_samples = 0

    def state_dict(self) -> dict[str, Any]:
        """The sums, for a checkpoint in the middle of an epoch."""
        return {"sums": self._sums.cpu().clone(), "num_samples": self.num_samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._sums.copy_(state["sums"])
        self.num_samples = int(state["num_samples"])
