"""What `--scan` shows: the loss with one layer or group pruned at a time, at several ratios, as numbers and as a picture."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dlkit.core.devices import torch_settings
from dlkit.core.evaluation import evaluate
from dlkit.events import Emit, Working, ignore
from dlkit.files import save_figure
from dlkit.prune.amounts import Amount
from dlkit.prune.channels import ChannelLimits, best_units, nearest_size, prunable_groups, shrink
from dlkit.prune.mask_rounds import plan_masks
from dlkit.prune.masks import MaskRule, PrunableWeight, apply_masks, full_masks, grow_masks
from dlkit.prune.opened_model import OpenedModel, TaskData
from dlkit.prune.request import PruneRequest
from dlkit.prune.shrink_rounds import measure_importance, plan_shrinking

RATIOS = (0.2, 0.4, 0.6, 0.8, 0.9)
NUM_SAMPLES = 2000  # of the judging split; enough to order layers by
ROWS_OF_LEGEND = 24

PrunePart = Callable[[int, float], AbstractContextManager[nn.Module]]


@dataclass(frozen=True)
class PartScan:
    """One layer or group: its weights or channels, and for each ratio the loss and the score."""

    name: str
    size: int
    losses: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Scan:
    """All parts. `loss` and `score`, the metric that judges, are those of the network as it is, on the same samples."""

    ratios: tuple[float, ...]
    metric: str
    loss: float
    score: float
    num_samples: int
    parts: tuple[PartScan, ...]


def scan_model(opened: OpenedModel, request: PruneRequest, *, emit: Emit = ignore) -> Scan:
    """Judge the network with each part that the request could prune, pruned alone; the network itself is left as it was."""
    assert opened.task_data is not None  # checked when the model was opened
    with torch_settings():
        if request.is_shrunk:
            return _scan_groups(opened, request, opened.task_data, emit=emit)
        return _scan_masks(opened, request, opened.task_data, emit=emit)


def _scan_masks(opened: OpenedModel, request: PruneRequest, task_data: TaskData, *, emit: Emit) -> Scan:
    """Mask one weight at a time, by the request's method."""
    plan = plan_masks(opened.network, request, opened.example)

    @contextmanager
    def prune_part(index: int, ratio: float) -> Iterator[nn.Module]:
        weight = plan.weights[index]
        kept = weight.parameter.detach().clone()
        apply_masks(opened.network, _mask_alone(weight, plan.rule, ratio, request.seed))
        try:
            yield opened.network
        finally:
            with torch.no_grad():
                weight.parameter.copy_(kept)

    parts = [(weight.name, weight.parameter.numel()) for weight in plan.weights]
    return _scan_parts(opened.network, parts, prune_part, task_data, emit=emit)


def _mask_alone(weight: PrunableWeight, rule: MaskRule, ratio: float, seed: int) -> dict[str, torch.Tensor]:
    alone = MaskRule(Amount(share=ratio), is_random=rule.is_random, dim=rule.dim, norm=rule.norm)
    return grow_masks([weight], full_masks([weight]), alone, generator=torch.Generator().manual_seed(seed))


def _scan_groups(opened: OpenedModel, request: PruneRequest, task_data: TaskData, *, emit: Emit) -> Scan:
    """Shrink one group at a time, to any number of channels, by the request's method."""
    plan = plan_shrinking(opened.network, request, opened.example)
    free = ChannelLimits(round_to=1, min_keep=0.0, skip=plan.limits.skip)
    importance = measure_importance(opened, plan.groups, request)
    groups = [group for group in prunable_groups(plan.groups, free) if group.id in importance]

    @contextmanager
    def prune_part(index: int, ratio: float) -> Iterator[nn.Module]:
        group = groups[index]
        units = best_units(group, importance[group.id], nearest_size(group, ratio, free))
        yield shrink(opened.network, [group], {group.id: units})

    parts = [(group.id, group.num_channels) for group in groups]
    return _scan_parts(opened.network, parts, prune_part, task_data, emit=emit)


def _scan_parts(
    network: nn.Module, parts: Sequence[tuple[str, int]], prune_part: PrunePart, task_data: TaskData, *, emit: Emit
) -> Scan:
    """Judge a network with one part pruned at a time. `prune_part(index, ratio)` yields the network with that part pruned.

    `parts` are names and sizes. The network is always judged on the same few batches of the split that decides.
    """
    split = task_data.judging
    most_batches = max(1, -(-NUM_SAMPLES * split.num_batches // split.num_samples))

    metric = task_data.scoring.scores.traits.judging

    def judge(pruned: nn.Module) -> tuple[float, float]:
        means = evaluate(pruned, split, task_data.scoring, most_batches=most_batches) or {}
        return means["loss"], means[metric]

    loss, score = judge(network)
    rows = []
    for index, (name, size) in enumerate(parts):
        judged = []
        for ratio in RATIOS:
            with prune_part(index, ratio) as pruned:
                judged.append(judge(pruned))
        losses, scores = zip(*judged, strict=True)
        rows.append(PartScan(name, size, losses, scores))
        emit(Working("scanning", index + 1, len(parts)))
    num_samples = min(split.num_samples, most_batches * -(-split.num_samples // split.num_batches))
    return Scan(RATIOS, metric, loss, score, num_samples, tuple(rows))


def save_scan_picture(path: Path, scan: Scan, title: str) -> None:
    """Draw one line for each part, from the first (dark) to the last; the ending of `path` picks png, svg or pdf."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # takes half a second to import

    columns = -(-len(scan.parts) // ROWS_OF_LEGEND)
    figure = Figure(figsize=(8 + 2.4 * columns, 5.5), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["viridis"]
    ratios = [0.0, *scan.ratios]
    for index, part in enumerate(scan.parts):
        colour = colours(index / max(1, len(scan.parts) - 1))
        axes.plot(ratios, [scan.loss, *part.losses], marker="o", markersize=3, color=colour, label=part.name)
    axes.axhline(scan.loss, color="grey", linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlabel("share removed, in this part alone")
    axes.set_ylabel(f"loss on {scan.num_samples:,} samples")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=7, ncols=columns)
    save_figure(path, figure)
