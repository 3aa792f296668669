"""Trying cuts: whether a network's code still runs with fewer channels, and the largest part of a choice that passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor, nn

from dlkit.core.models import (
    RunningModules,
    copy_network,
    eval_mode,
    meta_copy,
    random_inputs,
    tensors_in,
    unfused_attention,
)
from dlkit.prune.channels.cutting import cut_network
from dlkit.prune.channels.group import Group, Keep, kept_units

BATCH_SIZES = (2, 3)
Shapes = list[list[tuple[int, ...]]]
_MOST_SUSPECTS = 6


@dataclass(frozen=True)
class CutProblem:
    """Why a cut does not work. `places` are the module whose code failed and the one that had run last, where known."""

    reason: str
    places: tuple[str, ...] = ()


def refuse_untouchable(network: nn.Module, groups: Sequence[Group], example: Tensor) -> dict[str, str]:
    """The groups that cannot lose a channel, with the reason: the code relies on their number, or computes it from others.

    All groups lose as little as they can, at once, on the meta device where the network runs there. Where that fails, the
    groups in the module that failed are tried alone, and those that fail alone are refused; where none does, halves are
    tried.
    """
    refused = {group.id: "has a single channel" for group in groups if group.size == 1}
    inputs = example_inputs(example)[:1]
    base = _on_meta(network, inputs) or network
    if base is not network:
        inputs = [x.to("meta") for x in inputs]
    shapes = [output_shapes(base, x) for x in inputs]

    def find_problem(keep: Keep) -> CutProblem | None:
        return find_structure_problem(copy_network(base), groups, keep, inputs=inputs, shapes=shapes)

    keep: Keep = {group.id: _smallest_cut(group) for group in groups if group.size > 1}
    while keep and (problem := find_problem(keep)) is not None:
        suspects = _suspects(problem, groups, keep)
        alone = {name: found for name in suspects if (found := find_problem({name: keep[name]}))}
        if not alone:
            largest_passing(keep, find_problem, refused)
            break
        refused |= {group_id: found.reason for group_id, found in alone.items()}
        keep = {group_id: units for group_id, units in keep.items() if group_id not in alone}
    return refused


def _suspects(problem: CutProblem, groups: Sequence[Group], keep: Keep) -> list[str]:
    """The groups with a member in the module that failed, or, where those are many, in the one that had run last."""
    for place in problem.places:
        found = [
            group.id for group, _ in kept_units(groups, keep) if any(_is_below(m.module, place) for m in group.members)
        ]
        if len(found) <= _MOST_SUSPECTS:
            return found
    return []


def _is_below(name: str, place: str) -> bool:
    return not place or name == place or name.startswith(f"{place}.")


def _on_meta(network: nn.Module, inputs: Sequence[Tensor]) -> nn.Module | None:
    """A copy on the meta device; None where the network's code reads numbers or makes tensors on a device of its own."""
    base = meta_copy(network)
    try:
        output_shapes(base, inputs[0].to("meta"))
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return None
    return base


def _smallest_cut(group: Group) -> tuple[int, ...]:
    """The units that stay when a group loses as few as it can."""
    parts = gcd(*map(len, group.blocks))
    return tuple(sorted(unit for block in group.blocks for unit in block[: len(block) - len(block) // parts]))


def largest_passing(keep: Keep, find_problem: Callable[[Keep], CutProblem | None], refused: dict[str, str]) -> Keep:
    """The largest part of a choice found that has no problem: all of it, or what is left by halves, down to single groups.

    Groups that are left out are added to `refused`, each with its problem.
    """
    problem = find_problem(keep) if keep else None
    if problem is None:
        return keep
    if len(keep) == 1:
        refused[next(iter(keep))] = problem.reason
        return {}
    items = list(keep.items())
    middle = len(items) // 2
    left = largest_passing(dict(items[:middle]), find_problem, refused)
    right = largest_passing(dict(items[middle:]), find_problem, refused)
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


def find_structure_problem(
    network: nn.Module, groups: Sequence[Group], keep: Keep, *, inputs: Sequence[Tensor], shapes: Shapes
) -> CutProblem | None:
    """Shrink `network` in place and run it; return why that fails, or None.

    Every exception is caught, as what the network's own code raises is the answer. `shapes` are those of the outputs before.
    """
    running = RunningModules()
    try:
        cut_network(network, groups, keep)
        with running.followed(network):
            found = [output_shapes(network, x) for x in inputs]
    except Exception:
        places = (running.innermost.name if running.innermost else "", running.last)
        return CutProblem(f"with fewer channels {_words(running)} fails", places)
    if found != shapes:
        return CutProblem(f"the output's shape changes from {shapes[0]} to {found[0]}")
    empty = [name for name, tensor in network.named_parameters() if not tensor.numel()]
    return CutProblem(f"{empty[0]} would have no channel left") if empty else None


def _words(running: RunningModules) -> str:
    """`the code of attn (Attention)`, the module that was running when the network failed."""
    innermost = running.innermost
    if innermost is None or not innermost.name:
        return "the network's own code"
    return f"the code of {innermost.name} ({type(innermost.module).__name__})"


def example_inputs(example: Tensor) -> list[Tensor]:
    """Inputs like the example in shape, at two batch sizes; of whole numbers, the example's own."""
    generator = torch.Generator().manual_seed(0)
    if not example.is_floating_point():
        return [example[:1].repeat(batch, *[1] * (example.dim() - 1)) for batch in BATCH_SIZES]
    return [
        random_inputs(example.shape[1:], batch, example.device, generator=generator).to(example.dtype)
        for batch in BATCH_SIZES
    ]


def output_shapes(network: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
    """The shape of every tensor in the network's output, in evaluation mode."""
    with eval_mode(network), unfused_attention(), torch.no_grad():
        return [tuple(tensor.shape) for tensor in tensors_in(network(x))]
