"""How close a changed network stays to the one it was made from, on the same inputs and without labels."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.models import top1_matches


@dataclass(frozen=True)
class Fidelity:
    """Differences between the outputs of two networks.

    `sqnr_db`: power of the outputs over the power of the difference. `shift`: how far the predicted class probabilities
    move, half the sum of absolute differences, mean over samples, 0..1; for outputs that are no logits, the root of
    noise power over signal power instead. `agreement`: share of samples whose largest output is the same one.
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


def fidelity_of(reference: Tensor, changed: Tensor, *, is_classification: bool = True) -> Fidelity:
    """How close `changed` is to `reference`; both (N, num_outputs), logits if it is classification."""
    power = (changed.double() - reference.double()).square().sum().item()
    ratio = reference.double().square().sum().item() / power if power else math.inf
    if is_classification:
        shift = 0.5 * (reference.softmax(1) - changed.softmax(1)).abs().sum(1).mean().item()
    else:
        shift = 1 / math.sqrt(ratio) if ratio else math.inf
    agreement = top1_matches(reference, changed).float().mean().item()
    return Fidelity(10 * math.log10(ratio) if ratio else -math.inf, shift, agreement)
