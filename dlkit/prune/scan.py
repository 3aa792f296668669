"""How sensitive a network is to pruning, part by part: the loss when one layer or group alone is pruned, at several ratios."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from dlkit.core.evaluation.evaluate import evaluate
from dlkit.events import Report, Working
from dlkit.prune.amounts import Amount
from dlkit.prune.choosing import Limits, best_units, nearest_size, prunable_groups
from dlkit.prune.evidence import Evidence
from dlkit.prune.mask_rounds import MaskPlan
from dlkit.prune.masks import MaskRule, apply_masks, full_masks, grow_masks
from dlkit.prune.request import Request
from dlkit.prune.shrink_rounds import ShrinkPlan, rank_units
from dlkit.prune.shrinking import shrink
from dlkit.prune.subject import Subject
from dlkit.prune.weights import PrunableWeight

RATIOS = (0.2, 0.4, 0.6, 0.8, 0.9)
NUM_SAMPLES = 2000  # of the judging split; enough to order layers by

PrunedPart = Callable[[int, float], AbstractContextManager[nn.Module]]


@dataclass(frozen=True)
class PartScan:
    """One layer or group: its weights or channels, and for each ratio the loss and the accuracy (None for regression)."""

    name: str
    size: int
    losses: tuple[float, ...]
    accuracies: tuple[float | None, ...]


@dataclass(frozen=True)
class Scan:
    """The whole scan. `loss` and `accuracy` are those of the network as it is, on the same samples."""

    ratios: tuple[float, ...]
    loss: float
    accuracy: float | None
    num_samples: int
    parts: tuple[PartScan, ...]


def scan_parts(
    network: nn.Module, parts: Sequence[tuple[str, int]], prune_part: PrunedPart, evidence: Evidence, *, report: Report
) -> Scan:
    """Judge a network with one part pruned at a time. `prune_part(index, ratio)` gives the network with that part pruned.

    `parts` are names and sizes. Everything is judged on the same few batches of the split that decides.
    """
    split = evidence.judging
    most_batches = max(1, -(-NUM_SAMPLES * split.num_batches // split.num_samples))

    def judge(pruned: nn.Module) -> tuple[float, float | None]:
        means = evaluate(pruned, split, evidence.scoring, most_batches=most_batches) or {}
        return means["loss"], means.get("accuracy")

    loss, accuracy = judge(network)
    rows = []
    for index, (name, size) in enumerate(parts):
        judged = []
        for ratio in RATIOS:
            with prune_part(index, ratio) as pruned:
                judged.append(judge(pruned))
        losses, accuracies = zip(*judged, strict=True)
        rows.append(PartScan(name, size, losses, accuracies))
        report(Working("scanning", index + 1, len(parts)))
    num_samples = min(split.num_samples, most_batches * -(-split.num_samples // split.num_batches))
    return Scan(RATIOS, loss, accuracy, num_samples, tuple(rows))


def scan_masks(network: nn.Module, plan: MaskPlan, seed: int, evidence: Evidence, *, report: Report) -> Scan:
    """The scan of masks: one weight at a time, by the plan's method."""
    parts = [(weight.name, weight.parameter.numel()) for weight in plan.weights]

    @contextmanager
    def prune_part(index: int, ratio: float) -> Iterator[nn.Module]:
        weight = plan.weights[index]
        kept = weight.parameter.detach().clone()
        apply_masks(network, _mask_alone(weight, plan.rule, ratio, seed))
        try:
            yield network
        finally:
            with torch.no_grad():
                weight.parameter.copy_(kept)

    return scan_parts(network, parts, prune_part, evidence, report=report)


def _mask_alone(weight: PrunableWeight, rule: MaskRule, ratio: float, seed: int) -> dict[str, torch.Tensor]:
    alone = MaskRule(Amount(share=ratio), is_random=rule.is_random, dim=rule.dim, norm=rule.norm)
    return grow_masks([weight], full_masks([weight]), alone, generator=torch.Generator().manual_seed(seed))


def scan_groups(subject: Subject, plan: ShrinkPlan, request: Request, *, report: Report) -> Scan:
    """The scan of shrinking: one group of channels removed at a time, in any number, by the request's method."""
    free = Limits(round_to=1, min_keep=0.0, skip=plan.limits.skip)
    scores = rank_units(subject.network, plan.groups, request, subject)
    groups = [group for group in prunable_groups(plan.groups, free) if group.id in scores]

    @contextmanager
    def prune_part(index: int, ratio: float) -> Iterator[nn.Module]:
        group = groups[index]
        units = best_units(group, scores[group.id], nearest_size(group, ratio, free))
        yield shrink(subject.network, [group], {group.id: units})

    assert subject.evidence is not None  # checked when the subject was opened
    parts = [(group.id, group.num_channels) for group in groups]
    return scan_parts(subject.network, parts, prune_part, subject.evidence, report=report)
