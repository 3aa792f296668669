"""Trying cuts: which groups a network's own code bears to lose channels of, found by halves."""

import copy
from collections.abc import Callable, Mapping, Sequence
from math import gcd

import torch
from torch import Tensor, nn

from dlkit.core.models.meta import meta_copy
from dlkit.prune.coupling.trace import evaluating, output_tensors
from dlkit.prune.group import Group
from dlkit.prune.shrinking import cut_network

BATCH_SIZES = (2, 3)
Chosen = Mapping[str, tuple[int, ...]]
Shapes = list[list[tuple[int, ...]]]


def refuse_untouchable(network: nn.Module, groups: Sequence[Group], example: Tensor) -> dict[str, str]:
    """Groups that the code does not let go of, with the reason: sizes that it holds fixed, or that it computes from others.

    Each loses as little as it can, on the meta device where the network runs there, so that no memory is taken.
    """
    refused = {group.id: "has a single channel" for group in groups if group.size == 1}
    by_id = {group.id: group for group in groups if group.size > 1}
    inputs = random_inputs(example)
    base = _on_meta(network, inputs) or network
    if base is not network:
        inputs = [x.to("meta") for x in inputs]
    shapes = [output_shapes(base, x) for x in inputs]

    def problem(chosen: Chosen) -> str | None:
        kept = [(by_id[group_id], units) for group_id, units in chosen.items()]
        return structure_problem(copy.deepcopy(base), kept, inputs, shapes)

    accept({group_id: _smallest_cut(group) for group_id, group in by_id.items()}, problem, refused)
    return refused


def _on_meta(network: nn.Module, inputs: Sequence[Tensor]) -> nn.Module | None:
    """The network without memory; None where its code reads numbers or makes tensors on a device of its own."""
    base = meta_copy(network)
    try:
        output_shapes(base, inputs[0].to("meta"))
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return None
    return base


def _smallest_cut(group: Group) -> tuple[int, ...]:
    parts = gcd(*map(len, group.blocks))
    return tuple(sorted(unit for block in group.blocks for unit in block[: len(block) - len(block) // parts]))


def accept(chosen: Chosen, problem: Callable[[Chosen], str | None], refused: dict[str, str]) -> Chosen:
    """The largest part of `chosen` found that has no problem: all, or by halves, down to single groups.

    Groups that are left out are added to `refused`, each with its problem.
    """
    reason = problem(chosen) if chosen else None
    if reason is None:
        return chosen
    if len(chosen) == 1:
        refused[next(iter(chosen))] = reason
        return {}
    items = list(chosen.items())
    middle = len(items) // 2
    left = accept(dict(items[:middle]), problem, refused)
    right = accept(dict(items[middle:]), problem, refused)
    if not left or not right or problem({**left, **right}) is None:
        return {**left, **right}
    both = dict(left)
    for group_id, units in right.items():
        reason = problem({**both, group_id: units})
        if reason is None:
            both[group_id] = units
        else:
            refused[group_id] = f"together with others: {reason}"
    return both


def random_inputs(example: Tensor) -> list[Tensor]:
    """Inputs like the example in shape, at two batch sizes; of whole numbers, the example's own."""
    generator = torch.Generator().manual_seed(0)
    if not example.is_floating_point():
        return [example[:1].repeat(batch, *[1] * (example.dim() - 1)) for batch in BATCH_SIZES]
    return [
        torch.randn(batch, *example.shape[1:], generator=generator).to(example.device, example.dtype)
        for batch in BATCH_SIZES
    ]


def output_shapes(network: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
    """The shape of every tensor in the network's output, in evaluation mode."""
    with evaluating(network), torch.no_grad():
        return [tuple(tensor.shape) for tensor in output_tensors(network(x))]


def structure_problem(
    network: nn.Module, kept: Sequence[tuple[Group, Sequence[int]]], inputs: Sequence[Tensor], shapes: Shapes
) -> str | None:
    """Shrink `network` in place and run it; why that fails, or None. What foreign code raises is the answer, so all is caught."""
    try:
        cut_network(network, kept)
        found = [output_shapes(network, x) for x in inputs]
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"the network's code does not allow it: {lines[0]:.160}"
    if found != shapes:
        return f"the output's shape changes from {shapes[0]} to {found[0]}"
    empty = [name for name, tensor in network.named_parameters() if not tensor.numel()]
    return f"{empty[0]} would have no channel left" if empty else None
