"""Trying cuts: which groups a network's own code bears to lose channels of."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor, nn

from dlkit.core.models import RunningModules, eval_mode, meta_copy, output_tensors, unfused_attention
from dlkit.prune.channels.cutting import cut_network
from dlkit.prune.channels.group import Group

BATCH_SIZES = (2, 3)
Chosen = Mapping[str, tuple[int, ...]]
Shapes = list[list[tuple[int, ...]]]
_MOST_SUSPECTS = 6


@dataclass(frozen=True)
class CutProblem:
    """Why a cut does not work. `places` are the module whose code failed and the one that had run last, where known."""

    reason: str
    places: tuple[str, ...] = ()


def refuse_untouchable(network: nn.Module, groups: Sequence[Group], example: Tensor) -> dict[str, str]:
    """Groups that the code does not let go of, with the reason: sizes that it holds fixed, or that it computes from others.

    Each loses as little as it can, all at once, on the meta device where the network runs there. Where that fails, the
    groups at the place that failed are tried alone, and those that fail alone are refused; where none does, halves are.
    """
    refused = {group.id: "has a single channel" for group in groups if group.size == 1}
    by_id = {group.id: group for group in groups if group.size > 1}
    inputs = random_inputs(example)[:1]
    base = _on_meta(network, inputs) or network
    if base is not network:
        inputs = [x.to("meta") for x in inputs]
    shapes = [output_shapes(base, x) for x in inputs]

    def find_problem(chosen: Chosen) -> CutProblem | None:
        kept = [(by_id[group_id], units) for group_id, units in chosen.items()]
        return structure_problem(copy.deepcopy(base), kept, inputs, shapes)

    left: dict[str, tuple[int, ...]] = {group_id: _smallest_cut(group) for group_id, group in by_id.items()}
    while left and (problem := find_problem(left)) is not None:
        alone = {name: found for name in _suspects(problem, left, by_id) if (found := find_problem({name: left[name]}))}
        if not alone:
            accept(left, find_problem, refused)
            break
        refused |= {group_id: found.reason for group_id, found in alone.items()}
        left = {group_id: units for group_id, units in left.items() if group_id not in alone}
    return refused


def _suspects(problem: CutProblem, left: Chosen, groups: Mapping[str, Group]) -> list[str]:
    """The groups with a part in the module that failed, or, where those are many, in the one that ran before."""
    for place in problem.places:
        found = [group_id for group_id in left if any(_is_below(m.module, place) for m in groups[group_id].members)]
        if len(found) <= _MOST_SUSPECTS:
            return found
    return []


def _is_below(name: str, place: str) -> bool:
    return not place or name == place or name.startswith(f"{place}.")


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


def accept(chosen: Chosen, find_problem: Callable[[Chosen], CutProblem | None], refused: dict[str, str]) -> Chosen:
    """The largest part of `chosen` found that has no problem: all, or by halves, down to single groups.

    Groups that are left out are added to `refused`, each with its problem.
    """
    problem = find_problem(chosen) if chosen else None
    if problem is None:
        return chosen
    if len(chosen) == 1:
        refused[next(iter(chosen))] = problem.reason
        return {}
    items = list(chosen.items())
    middle = len(items) // 2
    left = accept(dict(items[:middle]), find_problem, refused)
    right = accept(dict(items[middle:]), find_problem, refused)
    if not left or not right or find_problem({**left, **right}) is None:
        return {**left, **right}
    both = dict(left)
    for group_id, units in right.items():
        problem = find_problem({**both, group_id: units})
        if problem is None:
            both[group_id] = units
        else:
            refused[group_id] = f"together with others: {problem.reason}"
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
    with eval_mode(network), unfused_attention(), torch.no_grad():
        return [tuple(tensor.shape) for tensor in output_tensors(network(x))]


def structure_problem(
    network: nn.Module, kept: Sequence[tuple[Group, Sequence[int]]], inputs: Sequence[Tensor], shapes: Shapes
) -> CutProblem | None:
    """Shrink `network` in place and run it; why that fails, or None. What foreign code raises is the answer, so all is caught."""
    running = RunningModules()
    try:
        cut_network(network, kept)
        with running.followed(network):
            found = [output_shapes(network, x) for x in inputs]
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        places = (running.innermost.name if running.innermost else "", running.last)
        return CutProblem(f"the network's code does not allow it: {lines[0]:.160}", places)
    if found != shapes:
        return CutProblem(f"the output's shape changes from {shapes[0]} to {found[0]}")
    empty = [name for name, tensor in network.named_parameters() if not tensor.numel()]
    return CutProblem(f"{empty[0]} would have no channel left") if empty else None
