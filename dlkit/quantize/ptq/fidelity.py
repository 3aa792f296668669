"""How close a changed network stays to the one it was made from, on the same inputs and without labels."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.scoring import SCORES
from dlkit.tasks import TaskName


@dataclass(frozen=True)
class Fidelity:
    """Differences between the outputs of two networks.

    `sqnr_db`: power of the outputs over the power of the difference. `shift`: how far the predicted class probabilities
    move, half the sum of absolute differences, mean over samples, 0..1; for outputs that are no logits, the root of
    noise power over signal power instead. `agreement`: share of decisions that are the same, None without any.
    """

    sqnr_db: float
    shift: float
    agreement: float | None

    @property
    def error(self) -> float:
        """What decides which of two networks is closer. Bounded per sample, so that no single one decides."""
        return self.shift


def outputs_of(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Outputs for all batches, of shape (N, ...), float32; without gradients, in the mode that the network is in."""
    with torch.no_grad():
        return torch.cat([network(batch).float() for batch in batches])


def fidelity_of(reference: Tensor, changed: Tensor, *, task: TaskName = "classification") -> Fidelity:
    """How close `changed` is to `reference`, outputs (N, num_outputs) for the task."""
    power = (changed.double() - reference.double()).square().sum().item()
    ratio = reference.double().square().sum().item() / power if power else math.inf
    scores = SCORES[task]()
    before, after = scores.probabilities(reference), scores.probabilities(changed)
    if before is not None and after is not None:
        shift = 0.5 * (before - after).abs().sum(1).mean().item()
    else:
        shift = 1 / math.sqrt(ratio) if ratio else math.inf
    decibels = 10 * math.log10(ratio) if ratio else -math.inf
    return Fidelity(decibels, shift, scores.agreement(reference, changed))
