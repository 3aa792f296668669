"""How important each unit of a group is: by the weights that make it and read it, by its batch norms, or by the loss.

Importance is a mean over numbers, layers and units, never a sum, so that neither wide layers nor groups of many layers
dominate when groups are compared: within every group it has mean 1.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dlkit.choices import PruneMethod
from dlkit.core.models import eval_mode, unfused_attention
from dlkit.prune.channels.cutting import count_parts
from dlkit.prune.channels.group import Group, Member

Importance = Mapping[str, Tensor]  # of every unit, of shape (size,), in float64, by the group's id
LossOf = Callable[[nn.Module, Any], Tensor]


def unit_importance(
    network: nn.Module, groups: Sequence[Group], method: PruneMethod, *, seed: int = 0
) -> dict[str, Tensor]:
    """The `Importance` of the groups that the method can rank; the others are left out.

    - l1, l2: mean size of all kernels and matrices that make, read or filter a channel (Li et al., 2017; Fang et al., 2023)
    - bn: size of the batch norms' weights along it (Liu et al., 2017); groups without one are left out
    - fpgm: distance of the weights that make it from those of the other channels (He et al., 2019)
    - random: by the seed
    """
    importance: dict[str, Tensor] = {}
    for number, group in enumerate(groups):
        if group.refusal:
            continue
        if method == "random":
            generator = torch.Generator().manual_seed(1_000_003 * seed + number)
            importance[group.id] = torch.rand(group.size, generator=generator, dtype=torch.float64)
        elif found := [_member_importance(network, member, method) for member in _ranking(network, group, method)]:
            importance[group.id] = _normalized(torch.stack(found).nanmean(dim=0))
    return importance


def _ranking(network: nn.Module, group: Group, method: PruneMethod) -> list[Member]:
    """The members by which a method ranks the units."""
    if method == "fpgm":
        return [member for member in group.members if member.part == "makes"]
    if method == "bn":
        return [member for member in group.members if _is_norm_weight(network, member)]
    parameters = dict(network.named_parameters())
    return [member for member in group.members if member.tensor in parameters and parameters[member.tensor].dim() > 1]


def _is_norm_weight(network: nn.Module, member: Member) -> bool:
    is_weight = member.tensor.rpartition(".")[2] == "weight"
    return is_weight and isinstance(network.get_submodule(member.module), _BatchNorm)


def _member_importance(network: nn.Module, member: Member, method: PruneMethod) -> Tensor:
    """The importance of each unit by one member, of mean 1; NaN where a unit has no place in it."""
    weight = network.get_parameter(member.tensor).detach().double().cpu()
    if method == "fpgm":
        rows = weight.movedim(member.dim, 0).flatten(1)
        values = torch.cdist(rows, rows).mean(dim=1)
        return _normalized(_over_places(member, values, torch.mean))
    power = 2 if method == "l2" else 1
    return _normalized(_per_unit(network, member, weight.abs() ** power, torch.mean) ** (1 / power))


def taylor_importance(
    network: nn.Module, groups: Sequence[Group], batches: Iterable[Any], loss_of: LossOf
) -> dict[str, Tensor]:
    """The `Importance` by the change of the loss, to first order, were a channel no longer read (Molchanov et al., 2019).

    Groups that no layer reads are left out. `loss_of(network, batch)` returns a batch's mean loss. The network runs in
    evaluation mode; no parameter's `.grad` is touched. The change is squared for each batch and averaged, as its sign differs
    from batch to batch.
    """
    parameters = dict(network.named_parameters())
    readers = {
        group.id: [member for member in group.members if member.part == "reads"]
        for group in groups
        if not group.refusal
    }
    names = sorted({member.tensor for members in readers.values() for member in members})
    totals = {group.id: torch.zeros(group.size, dtype=torch.float64) for group in groups if readers.get(group.id)}
    if not totals:
        return {}
    weights = [parameters[name] for name in names]
    with eval_mode(network), unfused_attention(), torch.enable_grad(), _requiring_grad(weights):
        for batch in batches:
            found = torch.autograd.grad(loss_of(network, batch), weights, allow_unused=True)
            gains = {
                name: torch.zeros_like(weight) if gradient is None else weight.detach() * gradient
                for name, weight, gradient in zip(names, weights, found, strict=True)
            }
            for group_id, total in totals.items():
                change = sum(
                    _per_unit(network, member, gains[member.tensor], torch.sum) for member in readers[group_id]
                )
                total += torch.as_tensor(change).square().cpu()
    return {group_id: _normalized(total.sqrt()) for group_id, total in totals.items()}


@contextmanager
def _requiring_grad(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let frozen weights have a gradient, too, for the length of a with-block."""
    before = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight, was in zip(weights, before, strict=True):
            weight.requires_grad_(was)


def _per_unit(network: nn.Module, member: Member, values: Tensor, combine: Callable[..., Tensor]) -> Tensor:
    """Combine the numbers of a weight's shape that belong to each unit."""
    parts = count_parts(network.get_submodule(member.module)) if member.dim == 1 else 1
    if parts > 1:
        values = torch.cat(values.chunk(parts), dim=1)  # the inputs of all parts side by side, as places count them
    rows = values.double().movedim(member.dim, 0)
    return _over_places(member, combine(rows.reshape(len(rows), -1), dim=1), combine)


def _over_places(member: Member, values: Tensor, combine: Callable[..., Tensor]) -> Tensor:
    """One value for each unit from those of its places along a dimension; NaN, or 0 for a sum, where it has none."""
    missing = 0.0 if combine is torch.sum else float("nan")
    if all(len(places) == 1 for places in member.places):
        return values[torch.tensor([places[0] for places in member.places], device=values.device)]
    units = [combine(values[list(places)], dim=0) if places else values.new_tensor(missing) for places in member.places]
    return torch.stack(units)


def _normalized(values: Tensor) -> Tensor:
    """The values divided by their mean, or left as they are where all are 0."""
    mean = float(values.nanmean())
    return values / mean if mean > 0 else values
