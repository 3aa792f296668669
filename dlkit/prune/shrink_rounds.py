"""Pruning that makes layers smaller, in one round or several, with recovery after each.

Rounds before the last hold channels at zero in the network of full size, so that every choice and every floor is of the
original; the last one removes them, checks the result, and recovers the small network.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from dlkit.core.data import Batch
from dlkit.core.scoring import Scoring
from dlkit.errors import UsageError
from dlkit.events import Emit, Note
from dlkit.prune.amounts import progress_of
from dlkit.prune.channels import (
    ChannelLimits,
    Group,
    Space,
    TargetSolution,
    Verified,
    choose,
    find_groups,
    parse_target,
    prunable_groups,
    score,
    score_taylor,
    solve_target,
    verify,
    zero_channels,
)
from dlkit.prune.masks import apply_masks
from dlkit.prune.opened_model import OpenedModel
from dlkit.prune.recovery import Recalibration, Recovery, recover
from dlkit.prune.request import PruneRequest

TAYLOR_BATCHES = 20
MOST_REASONS = 4
Keep = Mapping[str, tuple[int, ...]]
Amounts = float | Mapping[str, float]


@dataclass(frozen=True)
class ShrinkPlan:
    """The groups of a network, and what limits the choice among their channels."""

    groups: tuple[Group, ...]
    limits: ChannelLimits


@dataclass(frozen=True)
class Picked:
    """The units that stay of each group, and for a target how it was met."""

    keep: Keep
    solution: TargetSolution | None = None


@dataclass(frozen=True)
class Shrunk:
    """A smaller network that was checked, how its target was met, and what measuring batch norm again did to it."""

    verified: Verified
    solution: TargetSolution | None
    recalibration: Recalibration | None


def plan_shrinking(network: nn.Module, request: PruneRequest, example: Tensor) -> ShrinkPlan:
    """The groups that a request could shrink. Raises UsageError when there are none."""
    groups = find_groups(network, example)
    limits = ChannelLimits(request.picked_round_to, request.picked_min_keep, request.skip)
    if not prunable_groups(groups, limits):
        reasons = (
            "; ".join(dict.fromkeys(group.refusal for group in groups if group.refusal)) or "no layer has channels"
        )
        raise UsageError(f"nothing to shrink: {reasons}")
    return ShrinkPlan(tuple(groups), limits)


def run_shrink_rounds(
    opened: OpenedModel, plan: ShrinkPlan, request: PruneRequest, *, rewound: Mapping[str, Tensor] | None, emit: Emit
) -> Shrunk:
    """Shrink a opened's network, with recovery after each round; its network of full size is used up.

    Raises UsageError when nothing can be removed, and before any training when the target cannot be reached.
    """
    network, task_data = opened.network, opened.task_data
    recovery = Recovery(request.picked_recal, request.epochs, request.lr, is_rewound=rewound is not None)
    rounds = progress_of(request.schedule, request.iterations)
    picked = pick_units(network, plan, request, opened, emit=emit)
    amounts = [_amounts(plan, request, picked, progress) for progress in rounds]
    keep: Keep = {}
    for number, progress in enumerate(rounds, 1):
        if len(rounds) > 1:
            is_last = number == len(rounds)
            amount = amounts[number - 1] if request.target is None or not is_last else None
            picked = pick_units(network, plan, request, opened, before=keep, amount=amount, emit=emit)
            told = count_removed(plan.groups, picked.keep)
            emit(Note(f"iteration {number} of {len(rounds)}: {told}"))
        keep = picked.keep
        if rewound is not None:
            network.load_state_dict(dict(rewound), strict=True)
        if progress < 1.0:
            masks = channel_masks(network, plan.groups, keep)
            apply_masks(network, masks)
            if task_data is not None:
                recover(network, masks, recovery, task_data, emit=emit)
    verified = verify(network, plan.groups, _cut_only(plan.groups, keep), opened.example)
    _report_rolled_back(verified, emit)
    recalibration = None
    if task_data is not None:
        recalibration = recover(verified.network, None, recovery, task_data, emit=emit)
    return Shrunk(verified, picked.solution, recalibration)


def pick_units(
    network: nn.Module,
    plan: ShrinkPlan,
    request: PruneRequest,
    opened: OpenedModel,
    *,
    before: Keep | None = None,
    amount: Amounts | None = None,
    emit: Emit,
) -> Picked:
    """The units that stay of each group for the whole request, or for another `amount`; those gone `before` stay gone.

    Raises UsageError for a count that is too large and for a target that cannot be reached or is met already.
    """
    scores = rank_units(network, plan.groups, request, opened)
    if not any(group.id in scores for group in prunable_groups(plan.groups, plan.limits)):
        raise UsageError(f"--method {request.picked_method} can rank no channels of this network; try l1, l2 or taylor")
    for group in plan.groups:
        if before and group.id in before:
            gone = torch.ones(group.size, dtype=torch.bool)
            gone[list(before[group.id])] = False
            scores[group.id][gone] = -torch.inf
    if request.target is not None and amount is None:
        space = Space(plan.groups, scores, plan.limits, request.scope)
        solution = solve_target(network, space, parse_target(request.target), opened.example, emit=emit)
        return Picked(solution.keep, solution)
    wanted = _amounts(plan, request, None, 1.0) if amount is None else amount
    return Picked(choose(plan.groups, scores, wanted, limits=plan.limits, scope=request.scope))


def rank_units(
    network: nn.Module, groups: Sequence[Group], request: PruneRequest, opened: OpenedModel
) -> dict[str, Tensor]:
    """The importance of every unit by the request's method, by group."""
    method = request.picked_method
    if method != "taylor":
        return score(network, groups, method, seed=request.seed)
    task_data = opened.task_data
    assert task_data is not None  # checked when the model was opened
    batches = islice(task_data.data.train.batches(), TAYLOR_BATCHES)
    return score_taylor(network, groups, batches, lambda model, batch: _loss_of(model, batch, task_data.scoring))


def _loss_of(network: nn.Module, batch: Batch, scoring: Scoring) -> Tensor:
    loss, _ = scoring.loss(network(scoring.arrange(batch.inputs)), batch.targets)
    return loss


def _amounts(plan: ShrinkPlan, request: PruneRequest, picked: Picked | None, progress: float) -> Amounts:
    """What to remove when `progress` of the way is gone, as `choose` takes it: a share, or for a count one for each group.

    For a target it is a part of the share that meets it with the weights as they are at first.
    """
    amount = request.amount
    if amount is None:
        return picked.solution.amount * progress if picked and picked.solution else 0.0
    if amount.share is not None:
        return amount.share * progress
    open_groups = prunable_groups(plan.groups, plan.limits)
    total = sum(group.num_channels for group in open_groups)
    least = total if request.scope == "global" else min(group.num_channels for group in open_groups)
    if amount.of(least) >= least:
        raise UsageError(f"--count {amount.count}: there are only {least} channels to remove from; take fewer")
    if request.scope == "global":
        return amount.of(total, progress) / total
    return {group.id: amount.of(group.num_channels, progress) / group.num_channels for group in open_groups}


def channel_masks(network: nn.Module, groups: Sequence[Group], keep: Keep) -> dict[str, Tensor]:
    """Masks of every parameter in which removed channels have a place, true where the channels stay."""
    ones = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in ones.parameters():
            parameter.fill_(1)
    by_id = {group.id: group for group in groups}
    zero_channels(ones, [(by_id[group_id], units) for group_id, units in keep.items()], reads=False)
    masks = {name: (parameter != 0).cpu() for name, parameter in ones.named_parameters()}
    return {name: mask for name, mask in masks.items() if not mask.all()}


def count_removed(groups: Sequence[Group], keep: Keep) -> str:
    """`24 of 160 channels are removed`."""
    chosen = [group for group in groups if group.id in keep]
    total = sum(group.num_channels for group in chosen)
    kept = sum(group.num_channels * len(keep[group.id]) // group.size for group in chosen)
    return f"{total - kept:,} of {total:,} channels are removed"


def _cut_only(groups: Sequence[Group], keep: Keep) -> dict[str, tuple[int, ...]]:
    """What loses channels. Raises UsageError when nothing does."""
    cut = {group.id: tuple(keep[group.id]) for group in groups if len(keep.get(group.id, ())) not in (0, group.size)}
    if not cut:
        raise UsageError(
            "this removes no channel: the amount rounds to nothing, or --round-to and --min-keep hold every layer; "
            "ask for more, or --round-to 1"
        )
    return cut


def _report_rolled_back(verified: Verified, emit: Emit) -> None:
    for group_id, reason in verified.rolled_back.items():
        emit(Note(f"{group_id} stays whole: {reason}"))
    if not verified.keep:
        raise UsageError("no group of channels could be removed and verified; nothing was written")
