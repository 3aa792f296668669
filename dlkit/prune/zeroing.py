"""Setting channels to 0 in a network of full size: what shrinking is compared with."""

from collections.abc import Sequence

import torch
from torch import nn

from dlkit.prune.group import Group, Member
from dlkit.prune.shrinking import count_parts


def zero_channels(network: nn.Module, kept: Sequence[tuple[Group, Sequence[int]]], *, reads: bool) -> None:
    """Set what makes the other units of each group, and what lies along them, to 0, in place; buffers are let be.

    With a batch norm's weight and bias at 0 its running statistics no longer matter. With `reads`, also what the next
    layers make of these channels is 0, whatever the channels hold by then.
    """
    parameters = dict(network.named_parameters())
    for group, units in kept:
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
