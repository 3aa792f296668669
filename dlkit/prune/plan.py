"""What `--plan` shows: what a request would prune, without pruning it."""

from dataclasses import dataclass

from torch import nn

from dlkit.core.evaluation import weigh_network
from dlkit.events import Emit, ignore
from dlkit.prune.channels import GroupRow, list_groups, shrink
from dlkit.prune.mask_rounds import final_masks, plan_masks
from dlkit.prune.opened_model import OpenedModel
from dlkit.prune.request import PruneRequest
from dlkit.prune.shrink_rounds import layer_shares, pick_units, plan_shrinking


@dataclass(frozen=True)
class PlannedLayer:
    """A weight and how many of its entries would be zero; `note` says why none would."""

    name: str
    kind: str
    shape: tuple[int, ...]
    num_weights: int
    num_removed: int
    note: str = ""


def plan_mask_rows(opened: OpenedModel, request: PruneRequest) -> list[PlannedLayer]:
    """One row for each weight that could be masked. Raises UsageError where the request does not fit the network."""
    plan = plan_masks(opened.network, request, opened.example)
    masks = final_masks(plan, request.seed)
    rows = []
    for weight in plan.all_weights:
        mask, size = masks.get(weight.name), weight.parameter.numel()
        note = "" if mask is not None else "makes the network's outputs"
        removed = 0 if mask is None else int((~mask).sum())
        rows.append(PlannedLayer(weight.name, weight.kind, tuple(weight.parameter.shape), size, removed, note))
    return rows + [_computed_row(opened.network, layer, reason) for layer, reason in plan.computed.items()]


def _computed_row(network: nn.Module, layer: str, reason: str) -> PlannedLayer:
    """A layer of which nothing is masked, with the parameters that its weight is computed from."""
    module = network.get_submodule(layer)
    size = sum(parameter.numel() for parameter in module.parameters())
    return PlannedLayer(layer, type(module).__name__, (), size, 0, reason)


@dataclass(frozen=True)
class ShrinkSizes:
    """A planned shrinking: its groups, and parameters and MACs before and after (None where they are not known)."""

    groups: tuple[GroupRow, ...]
    num_parameters: tuple[int | None, int | None]
    macs: tuple[int | None, int | None]


def plan_shrink_sizes(opened: OpenedModel, request: PruneRequest, *, emit: Emit = ignore) -> ShrinkSizes:
    """What shrinking would keep, by the weights as they are now. Raises UsageError where the request does not fit."""
    plan = plan_shrinking(opened.network, request, opened.example)
    keep = pick_units(opened, plan, request, emit=emit).keep
    smaller = shrink(opened.network, plan.groups, keep)
    size = opened.file.spec.info.input_size
    before, after = (weigh_network(network, size, None) for network in (opened.network, smaller))
    return ShrinkSizes(
        groups=tuple(list_groups(plan.groups, plan.limits, keep, shares=layer_shares(plan, request))),
        num_parameters=(before.num_parameters, after.num_parameters),
        macs=(before.macs, after.macs),
    )
