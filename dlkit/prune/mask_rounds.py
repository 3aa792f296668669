"""Pruning by masks, in one round or several, with recovery after each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dlkit.errors import UsageError
from dlkit.events import Emit, Note
from dlkit.prune.amounts import Amount, progress_of
from dlkit.prune.computed_weights import find_computed_weights
from dlkit.prune.masks import (
    MaskRule,
    PrunableWeight,
    apply_masks,
    find_output_weights,
    find_weights,
    full_masks,
    grow_masks,
    measure_sparsity,
    total_sparsity,
)
from dlkit.prune.opened_model import TaskData
from dlkit.prune.recovery import Recalibration, plan_recovery, recover
from dlkit.prune.request import PruneRequest


@dataclass(frozen=True)
class MaskPlan:
    """The weights that are masked, and by which rule; `outputs` are left alone although no --skip names them, and so are
    layers whose weights are `computed`, each with the reason.
    """

    weights: tuple[PrunableWeight, ...]
    rule: MaskRule
    all_weights: tuple[PrunableWeight, ...]
    outputs: tuple[str, ...] = ()
    computed: Mapping[str, str] = field(default_factory=dict)


def plan_masks(network: nn.Module, request: PruneRequest, example: Tensor) -> MaskPlan:
    """Plan what a request masks of a network. Raises UsageError when there is nothing to prune.

    Whole output channels of the layers that make the network's outputs are left alone: they are classes.
    """
    weights = find_weights(network, request.skip)
    rule = MaskRule(
        amount=request.amount or Amount(count=0),
        scope=request.scope,
        is_random=request.picked_method == "random",
        dim=request.picked_dim,
        norm=request.picked_norm,
        min_keep=request.picked_min_keep,
    )
    outputs = find_output_weights(network, example, weights) if rule.dim == 0 else set()
    kept = tuple(weight for weight in weights if weight.name not in outputs)
    if not kept:
        raise UsageError("nothing to prune: every layer makes outputs of the network; without --structured it can be")
    return MaskPlan(kept, rule, tuple(weights), tuple(sorted(outputs)), find_computed_weights(network))


def run_mask_rounds(
    network: nn.Module,
    plan: MaskPlan,
    request: PruneRequest,
    task_data: TaskData | None,
    *,
    rewound: Mapping[str, Tensor] | None,
    emit: Emit,
) -> tuple[dict[str, Tensor], Recalibration | None]:
    """Mask a network in place, round by round, with recovery after each; return the final masks and the last recalibration.

    `rewound` are weights to go back to in each round. Raises UsageError when the amount removes nothing.
    """
    _check_amount(plan, request)
    recalibration = None
    recovery = plan_recovery(network, request, task_data, is_rewound=rewound is not None)
    generator = torch.Generator().manual_seed(request.seed)
    masks = full_masks(plan.weights)
    rounds = progress_of(request.schedule, request.iterations)
    for number, progress in enumerate(rounds, 1):
        masks = grow_masks(plan.weights, masks, plan.rule, progress=progress, generator=generator)
        if rewound is not None:
            network.load_state_dict(dict(rewound), strict=True)
        apply_masks(network, masks)
        if len(rounds) > 1:
            share = total_sparsity(measure_sparsity(plan.weights))
            emit(Note(f"iteration {number} of {len(rounds)}: {share:.1%} of the weights are zero"))
        if task_data is not None:
            recalibration = recover(network, masks, recovery, task_data, emit=emit)
    _warn_of_empty(plan.weights, masks, emit)
    return masks, recalibration


def _check_amount(plan: MaskPlan, request: PruneRequest) -> None:
    """Raise UsageError, before any training, for an amount that rounds to nothing or is zero already."""
    masks = final_masks(plan, request.seed)
    if all(bool(mask.all()) for mask in masks.values()):
        raise UsageError(f"{request.amount} of these layers rounds to nothing; ask for more")
    kept = (weight.parameter.detach().cpu()[~masks[weight.name]] for weight in plan.weights)
    if not any(bool(values.any()) for values in kept):
        share = total_sparsity(measure_sparsity(plan.weights))
        raise UsageError(
            f"{request.amount} removes nothing new: {share:.1%} of these weights are zero already; ask for more than that"
        )


def final_masks(plan: MaskPlan, seed: int) -> dict[str, Tensor]:
    """The masks that take the whole amount at once from the weights as they are now."""
    generator = torch.Generator().manual_seed(seed)
    return grow_masks(plan.weights, full_masks(plan.weights), plan.rule, generator=generator)


def _warn_of_empty(weights: Sequence[PrunableWeight], masks: Mapping[str, Tensor], emit: Emit) -> None:
    empty = [weight.layer or weight.name for weight in weights if not masks[weight.name].any()]
    if empty:
        emit(
            Note(f"nothing is left of {', '.join(empty)}, which can cut the network in two; --min-keep 5% prevents it")
        )
