"""Shrinking in one round or several: plan the groups, choose the units that stay, cut, verify, recover.

Rounds before the last hold channels at zero in the network of full size, so that every choice and every limit is of the
original; the last one cuts them out, verifies the result, and recovers the small network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from dlkit.core.data import Batch
from dlkit.core.models import copy_network
from dlkit.core.scoring import Scoring
from dlkit.errors import UsageError
from dlkit.events import Emit, Note
from dlkit.prune.amounts import progress_of
from dlkit.prune.channels import (
    ChannelLimits,
    Group,
    Keep,
    Shares,
    Space,
    TargetSolution,
    Verified,
    choose,
    find_groups,
    prunable_groups,
    shrink_verified,
    solve_target,
    taylor_importance,
    unit_importance,
    zero_channels,
)
from dlkit.prune.masks import apply_masks
from dlkit.prune.opened_model import OpenedModel
from dlkit.prune.recovery import Recalibration, Recovery, plan_recovery, recover
from dlkit.prune.request import PruneRequest

TAYLOR_BATCHES = 20


@dataclass(frozen=True)
class ShrinkPlan:
    """The groups of a network, and what limits the choice among their channels."""

    groups: tuple[Group, ...]
    limits: ChannelLimits


@dataclass(frozen=True)
class Picked:
    """The units that stay of each group, and for a target how it is met."""

    keep: Keep
    solution: TargetSolution | None = None


@dataclass(frozen=True)
class Shrunk:
    """A smaller network that was verified, how its target was met, and the effect of measuring batch norm again."""

    verified: Verified
    solution: TargetSolution | None
    recalibration: Recalibration | None


def plan_shrinking(network: nn.Module, request: PruneRequest, example: Tensor) -> ShrinkPlan:
    """Find the groups that a request could shrink. Raises UsageError when there are none."""
    groups = find_groups(network, example)
    limits = ChannelLimits(request.picked_round_to, request.picked_min_keep, request.skip)
    if not prunable_groups(groups, limits):
        raise UsageError(f"nothing to shrink: {_refusals(groups) or 'no layer has channels'}")
    return ShrinkPlan(tuple(groups), limits)


def _refusals(groups: Sequence[Group]) -> str:
    """The reasons why groups stay whole, each with the first group that it holds for: `fc: reaches the model's output`."""
    first = {group.refusal: group.id for group in reversed(groups) if group.refusal}
    return "; ".join(f"{group_id}: {reason}" for reason, group_id in reversed(first.items()))


def run_shrink_rounds(
    opened: OpenedModel, plan: ShrinkPlan, request: PruneRequest, *, rewound: Mapping[str, Tensor] | None, emit: Emit
) -> Shrunk:
    """Shrink an opened model's network, with recovery after each round; its network of full size is used up.

    `rewound` are weights to go back to in each round. Raises UsageError when nothing can be removed, and before any
    training when the target cannot be reached.
    """
    recovery = plan_recovery(opened.network, request, opened.task_data, is_rewound=rewound is not None)
    picked = _pick_in_rounds(opened, plan, request, recovery, rewound=rewound, emit=emit)
    _check_removes(plan.groups, picked.keep)
    verified = shrink_verified(opened.network, plan.groups, picked.keep, opened.example)
    _check_verified(verified, emit)
    recalibration = None
    if opened.task_data is not None:
        recalibration = recover(verified.network, None, recovery, opened.task_data, emit=emit)
    return Shrunk(verified, picked.solution, recalibration)


def _pick_in_rounds(
    opened: OpenedModel,
    plan: ShrinkPlan,
    request: PruneRequest,
    recovery: Recovery,
    *,
    rewound: Mapping[str, Tensor] | None,
    emit: Emit,
) -> Picked:
    """Pick more units to remove in each round; before the last, hold their channels at zero and recover."""
    network, task_data = opened.network, opened.task_data
    rounds = progress_of(request.schedule, request.iterations)
    picked = pick_units(opened, plan, request, emit=emit)
    shares = [_shares(plan, request, picked, progress) for progress in rounds]
    keep: Keep = {}
    for number, progress in enumerate(rounds, 1):
        if len(rounds) > 1:
            is_by_target = request.target is not None and progress == 1.0
            wanted = None if is_by_target else shares[number - 1]
            picked = pick_units(opened, plan, request, before=keep, shares=wanted, emit=emit)
            emit(Note(f"iteration {number} of {len(rounds)}: {_count_removed(plan.groups, picked.keep)}"))
        keep = picked.keep
        if rewound is not None:
            network.load_state_dict(dict(rewound), strict=True)
        if progress < 1.0:
            masks = channel_masks(network, plan.groups, keep)
            apply_masks(network, masks)
            if task_data is not None:
                recover(network, masks, recovery, task_data, emit=emit)
    return picked


def pick_units(
    opened: OpenedModel,
    plan: ShrinkPlan,
    request: PruneRequest,
    *,
    before: Keep | None = None,
    shares: Shares | None = None,
    emit: Emit,
) -> Picked:
    """Pick the units that stay of each group for the whole request, or for other `shares`; those gone `before` stay gone.

    Raises UsageError for a count that is too large and for a target that cannot be reached or is met already.
    """
    importance = measure_importance(opened, plan.groups, request)
    if not any(group.id in importance for group in prunable_groups(plan.groups, plan.limits)):
        raise UsageError(f"--method {request.picked_method} can rank no channels of this network; try l1 or l2")
    for group in plan.groups:
        if before and group.id in before:
            gone = torch.ones(group.size, dtype=torch.bool)
            gone[list(before[group.id])] = False
            importance[group.id][gone] = -torch.inf
    if request.target is not None and shares is None:
        space = Space(plan.groups, importance, plan.limits, request.scope)
        solution = solve_target(opened.network, space, request.target, opened.example, emit=emit)
        return Picked(solution.keep, solution)
    wanted = _shares(plan, request, None, 1.0) if shares is None else shares
    return Picked(choose(plan.groups, importance, wanted, limits=plan.limits, scope=request.scope))


def measure_importance(opened: OpenedModel, groups: Sequence[Group], request: PruneRequest) -> dict[str, Tensor]:
    """The importance of every unit by the request's method, by the group's id."""
    method = request.picked_method
    if method != "taylor":
        return unit_importance(opened.network, groups, method, seed=request.seed)
    task_data = opened.task_data
    assert task_data is not None  # checked when the model was opened
    batches = islice(task_data.data.train.batches(), TAYLOR_BATCHES)
    return taylor_importance(
        opened.network, groups, batches, lambda model, batch: _loss(model, batch, task_data.scoring)
    )


def _loss(network: nn.Module, batch: Batch, scoring: Scoring) -> Tensor:
    loss, _ = scoring.loss(network(scoring.arrange(batch.inputs)), batch.targets)
    return loss


def layer_shares(plan: ShrinkPlan, request: PruneRequest) -> Shares | None:
    """What every group is to lose; None for a target and where groups compete."""
    if request.amount is None or request.scope == "global":
        return None
    return _shares(plan, request, None, 1.0)


def _shares(plan: ShrinkPlan, request: PruneRequest, picked: Picked | None, progress: float) -> Shares:
    """What to remove by the time that `progress` of the request is done: a share, or for a count one of each group.

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


def _count_removed(groups: Sequence[Group], keep: Keep) -> str:
    """`24 of 160 channels are removed`."""
    chosen = [group for group in groups if group.id in keep]
    total = sum(group.num_channels for group in chosen)
    kept = sum(group.num_channels * len(keep[group.id]) // group.size for group in chosen)
    return f"{total - kept:,} of {total:,} channels are removed"


def channel_masks(network: nn.Module, groups: Sequence[Group], keep: Keep) -> dict[str, Tensor]:
    """Masks of the parameters in which removed channels have a place, true where channels stay."""
    ones = copy_network(network)
    with torch.no_grad():
        for parameter in ones.parameters():
            parameter.fill_(1)
    zero_channels(ones, groups, keep, reads=False)
    masks = {name: (parameter != 0).cpu() for name, parameter in ones.named_parameters()}
    return {name: mask for name, mask in masks.items() if not mask.all()}


def _check_removes(groups: Sequence[Group], keep: Keep) -> None:
    sizes = {group.id: group.size for group in groups}
    if all(len(units) == sizes[group_id] for group_id, units in keep.items()):
        raise UsageError(
            "this removes no channel: the amount rounds to nothing, or --round-to and --min-keep hold every layer; "
            "ask for more, or --round-to 1"
        )


def _check_verified(verified: Verified, emit: Emit) -> None:
    for group_id, reason in verified.rolled_back.items():
        emit(Note(f"{group_id} stays whole: {reason}"))
    if not verified.keep:
        raise UsageError("no group of channels could be removed and verified; nothing was written")
