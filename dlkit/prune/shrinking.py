"""Removing channels for real: a smaller network from the units of each group that are kept."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dlkit.prune.group import Group, Member, find_group
from dlkit.prune.sizes import fit_sizes, put_tensor

Keep = Mapping[str, Sequence[int]]


def shrink(network: nn.Module, groups: Sequence[Group], keep: Keep) -> nn.Module:
    """A new network in which of each group named in `keep` only these units are left; the given one is untouched.

    Parameters and buffers are cut and the layers' sizes set. Works on the meta device. Raises ValueError for units that
    do not exist, for a group left empty, and for blocks of which not the same share is kept.
    """
    smaller = copy.deepcopy(network)
    cut_network(smaller, [(find_group(groups, group_id), tuple(units)) for group_id, units in keep.items()])
    return smaller


def cut_network(network: nn.Module, kept: Sequence[tuple[Group, Sequence[int]]]) -> None:
    """Shrink a network in place."""
    cuts: dict[str, list[tuple[Member, set[int]]]] = {}
    for group, units in kept:
        check_units(group, units)
        removed = set(range(group.size)) - set(units)
        for member in group.members if removed else ():
            cuts.setdefault(member.tensor, []).append((member, removed))
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    touched = []
    for name, members in cuts.items():
        module = network.get_submodule(name.rpartition(".")[0])
        put_tensor(network, held[name], _cut(held[name].detach(), members, count_parts(module)))
        touched.append(module)
    for module in dict.fromkeys(touched):
        fit_sizes(module)


def count_parts(module: nn.Module) -> int:
    """Parts into which a convolution's inputs fall; 1 for depthwise ones, whose channels stand alone, and for other layers."""
    is_grouped = isinstance(module, _ConvNd) and 1 < module.groups < module.in_channels
    return int(module.groups) if is_grouped else 1  # type: ignore[arg-type]  # torch types attributes as Tensor | Module


def check_units(group: Group, units: Sequence[int]) -> None:
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
    """A grouped convolution's weight (outputs, inputs of one group, ...): each group loses inputs of its own."""
    width = weight.shape[1]
    parts = []
    for number, part in enumerate(weight.chunk(num_parts)):
        stay = [place for place in range(width) if number * width + place not in removed]
        parts.append(part.index_select(1, torch.tensor(stay).to(weight.device)))
    return torch.cat(parts)
