"""Which places along each dimension a choice of units removes, and the sizes that follow from that alone."""

import math
from collections.abc import Sequence

from torch import nn

from dlkit.prune.group import Group
from dlkit.prune.shrinking import count_parts


def count_parameters(network: nn.Module) -> int:
    """Numbers in all parameters, tied ones once."""
    return sum(parameter.numel() for parameter in network.parameters())


def predict_parameters(network: nn.Module, kept: Sequence[tuple[Group, Sequence[int]]]) -> int:
    """What `count_parameters` must give after shrinking, from the groups alone."""
    sizes = {name: list(parameter.shape) for name, parameter in network.named_parameters()}
    for side, places in removed_places(kept).items():
        name, dim = side
        if name in sizes:
            parts = count_parts(network.get_submodule(name.rpartition(".")[0])) if dim == 1 else 1
            sizes[name][dim] -= len(places) // parts
    return sum(math.prod(shape) for shape in sizes.values())


def kept_places(kept: Sequence[tuple[Group, Sequence[int]]], network: nn.Module) -> dict[tuple[str, int], list[int]]:
    """The places left along every cut dimension, in order."""
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {
        (name, dim): [place for place in range(held[name].shape[dim]) if place not in places]
        for (name, dim), places in removed_places(kept).items()
    }


def removed_places(kept: Sequence[tuple[Group, Sequence[int]]]) -> dict[tuple[str, int], set[int]]:
    """The places that go, by tensor and dimension."""
    removed: dict[tuple[str, int], set[int]] = {}
    for group, units in kept:
        gone = set(range(group.size)) - set(units)
        for member in group.members:
            places = {place for unit in gone for place in member.places[unit]}
            removed.setdefault((member.tensor, member.dim), set()).update(places)
    return removed
