"""Cutting channels out: a smaller network with only those units of each group that are kept, or the same ones set to zero."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dlkit.core.models import copy_network
from dlkit.prune.channels.group import Group, Keep, Member, kept_units
from dlkit.prune.channels.layer_sizes import fit_sizes, put_tensor, stored_tensors


def shrink(network: nn.Module, groups: Sequence[Group], keep: Keep) -> nn.Module:
    """Return a new network in which each group that `keep` names has only these units; the given one is not changed.

    Cuts parameters and buffers and sets the layers' sizes. Works on the meta device. Raises ValueError for units that do not
    exist, for a group left empty, and for blocks of which different shares are kept.
    """
    smaller = copy_network(network)
    cut_network(smaller, groups, keep)
    return smaller


def cut_network(network: nn.Module, groups: Sequence[Group], keep: Keep) -> None:
    """Shrink a network in place."""
    cuts: dict[str, list[tuple[Member, set[int]]]] = {}
    for group, units in kept_units(groups, keep):
        _check_units(group, units)
        removed = set(range(group.size)) - set(units)
        for member in group.members if removed else ():
            cuts.setdefault(member.tensor, []).append((member, removed))
    stored = stored_tensors(network)
    touched = []
    for name, members in cuts.items():
        module = network.get_submodule(name.rpartition(".")[0])
        put_tensor(network, stored[name], _cut(stored[name].detach(), members, count_parts(module)))
        touched.append(module)
    for module in dict.fromkeys(touched):
        fit_sizes(module)


def _check_units(group: Group, units: Sequence[int]) -> None:
    """Raise ValueError unless these are some units of the group, each once, in order, the same share of every block."""
    kept = set(units)
    if not kept or len(kept) != len(units) or not kept <= set(range(group.size)) or list(units) != sorted(units):
        raise ValueError(f"group {group.id}: units must be in order, each once, from 0 to {group.size - 1}")
    shares = {len(kept & set(block)) / len(block) for block in group.blocks}
    if len(shares) > 1:
        raise ValueError(f"group {group.id}: its {len(group.blocks)} parts must keep the same share")


def _cut(tensor: Tensor, members: Sequence[tuple[Member, set[int]]], num_parts: int) -> Tensor:
    removed: dict[int, set[int]] = {}
    for member, units in members:
        removed.setdefault(member.dim, set()).update(place for unit in units for place in member.places[unit])
    inputs = removed.pop(1, set()) if num_parts > 1 else set()
    if inputs:
        tensor = _cut_grouped_inputs(tensor, inputs, num_parts)
    for dim, places in removed.items():
        stay = torch.tensor([place for place in range(tensor.shape[dim]) if place not in places])
        tensor = tensor.index_select(dim, stay.to(tensor.device))
    return tensor.clone()


def _cut_grouped_inputs(weight: Tensor, removed: set[int], num_parts: int) -> Tensor:
    """Cut a grouped convolution's weight (outputs, inputs of one group, ...), of which each group loses inputs of its own."""
    width = weight.shape[1]
    parts = []
    for number, part in enumerate(weight.chunk(num_parts)):
        stay = [place for place in range(width) if number * width + place not in removed]
        parts.append(part.index_select(1, torch.tensor(stay).to(weight.device)))
    return torch.cat(parts)


def zero_channels(network: nn.Module, groups: Sequence[Group], keep: Keep, *, reads: bool) -> None:
    """Set to 0, in place, what makes the units that are not kept and what lies along them; buffers stay as they are.

    With a batch norm's weight and bias at 0 its running statistics no longer matter. With `reads`, the weights that read
    these channels are 0 too, so that what the channels hold by then has no effect.
    """
    parameters = dict(network.named_parameters())
    for group, units in kept_units(groups, keep):
        removed = set(range(group.size)) - set(units)
        for member in group.members:
            if member.tensor in parameters and (reads or member.part != "reads"):
                module = network.get_submodule(member.module)
                _zero(parameters[member.tensor], member, removed, num_parts=count_parts(module))


def _zero(parameter: nn.Parameter, member: Member, removed: set[int], *, num_parts: int) -> None:
    places = torch.tensor(sorted(place for unit in removed for place in member.places[unit]), dtype=torch.int64)
    with torch.no_grad():
        if member.dim == 1 and num_parts > 1:  # inputs counted through all parts of a grouped convolution
            width = parameter.shape[1]
            for number, part in enumerate(parameter.chunk(num_parts)):
                inside = places[(places >= number * width) & (places < (number + 1) * width)] - number * width
                part.index_fill_(1, inside.to(parameter.device), 0.0)
        else:
            parameter.index_fill_(member.dim, places.to(parameter.device), 0.0)


def predict_parameters(network: nn.Module, groups: Sequence[Group], keep: Keep) -> int:
    """Return what `parameter_count` must be after shrinking, from the groups alone."""
    sizes = {name: list(parameter.shape) for name, parameter in network.named_parameters()}
    for (name, dim), places in _removed_places(groups, keep).items():
        if name in sizes:
            parts = count_parts(network.get_submodule(name.rpartition(".")[0])) if dim == 1 else 1
            sizes[name][dim] -= len(places) // parts
    return sum(math.prod(shape) for shape in sizes.values())


def kept_places(network: nn.Module, groups: Sequence[Group], keep: Keep) -> dict[tuple[str, int], list[int]]:
    """The places left along every cut dimension, in order, by tensor and dimension."""
    stored = stored_tensors(network)
    return {
        (name, dim): [place for place in range(stored[name].shape[dim]) if place not in places]
        for (name, dim), places in _removed_places(groups, keep).items()
    }


def _removed_places(groups: Sequence[Group], keep: Keep) -> dict[tuple[str, int], set[int]]:
    removed: dict[tuple[str, int], set[int]] = {}
    for group, units in kept_units(groups, keep):
        gone = set(range(group.size)) - set(units)
        for member in group.members:
            places = {place for unit in gone for place in member.places[unit]}
            removed.setdefault((member.tensor, member.dim), set()).update(places)
    return removed


def count_parts(module: nn.Module) -> int:
    """Parts into which a convolution's inputs fall; 1 for depthwise ones, whose channels stand alone, and for other layers."""
    is_grouped = isinstance(module, _ConvNd) and 1 < module.groups < module.in_channels
    return int(module.groups) if is_grouped else 1  # type: ignore[arg-type]  # torch types attributes as Tensor | Module
