"""How close a changed network stays to the one it was made from, on the same inputs and without labels."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.models import top1_matches
from dlkit.core.scoring import SCORES
from dlkit.tasks import TaskName


@dataclass(frozen=True)
class Fidelity:
    """Differences between the outputs of two networks.

    `sqnr_db`: power of the outputs over the power of the difference. `shift`: how far the predicted class probabilities
    move, half the sum of absolute differences, mean over samples, 0..1; for outputs that are no logits, the root of
    noise power over signal power instead. `agreement`: share of decisions that are the same.
    """

    sqnr_db: float
    shift: float
    agreement: float

    @property
    def error(self) -> float:
        """What decides which of two networks is closer. Bounded per sample, so that no single one decides."""
        return self.shift


def outputs_of(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Outputs for all batches, of shape (N, ...), float32; without gradients, in the mode that the network is in."""
    with torch.no_grad():
        return torch.cat([network(batch).float() for batch in batches])


def share_of_same(outputs: Tensor, others: Tensor, *, task: TaskName) -> float:
    """Returns for what share of samples, or of labels, the same is decided; without decisions, the same output is the largest."""
    scores = SCORES[task]()
    one, other = scores.decisions(outputs), scores.decisions(others)
    same = top1_matches(outputs, others) if one is None or other is None else one == other
    return same.float().mean().item()


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
    agreement = share_of_same(reference, changed, task=task)
    return Fidelity(10 * math.log10(ratio) if ratio else -math.inf, shift, agreement)
