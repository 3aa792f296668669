"""What a request would prune, without pruning it."""

from dataclasses import dataclass

import torch

from dlkit.prune.mask_rounds import plan_masks
from dlkit.prune.masks import full_masks, grow_masks
from dlkit.prune.request import Request
from dlkit.prune.subject import Subject


@dataclass(frozen=True)
class PlannedLayer:
    """A weight and how many of its entries would be zero; `note` says why none would."""

    name: str
    kind: str
    shape: tuple[int, ...]
    num_weights: int
    num_removed: int
    note: str = ""


def plan_mask_rows(subject: Subject, request: Request) -> list[PlannedLayer]:
    """One row for each weight that masks could touch. Raises UsageError where the request does not fit."""
    plan = plan_masks(subject.network, request, subject.example)
    generator = torch.Generator().manual_seed(request.seed)
    masks = grow_masks(plan.weights, full_masks(plan.weights), plan.rule, generator=generator)
    rows = []
    for weight in plan.all_weights:
        mask, size = masks.get(weight.name), weight.parameter.numel()
        note = "" if mask is not None else "makes the network's outputs"
        removed = 0 if mask is None else int((~mask).sum())
        rows.append(PlannedLayer(weight.name, weight.kind, tuple(weight.parameter.shape), size, removed, note))
    return rows
