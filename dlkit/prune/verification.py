"""Proof that a shrunk network computes what it should, group by group; a group without proof stays whole.

Every result passes: same output shapes at two batch sizes, no tensor without channels, the predicted number of
parameters, every channel arriving at the weights that were made for it (by a second trace), and in float64 the same
outputs as the full network with the removed channels set to 0. The last holds for all groups but those on whose channels
others depend through statistics, which no zeros can imitate.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.prune.coupling.agreement import find_misplaced
from dlkit.prune.coupling.trace import evaluating, output_tensors, trace
from dlkit.prune.coupling.tracer import Findings
from dlkit.prune.group import Group
from dlkit.prune.shrinking import count_parts, shrink
from dlkit.prune.trial import Chosen, Shapes, accept, output_shapes, random_inputs, structure_problem
from dlkit.prune.zeroing import zero_channels

TOLERANCE = 1e-9  # of the largest output, in float64


@dataclass(frozen=True)
class Verified:
    """A network whose shrinking was checked.

    `keep` is what was kept of each group that was cut. `rolled_back` gives the reason for each group that stayed whole
    although it was to be cut. `kinds` says for each cut group whether its removal is exact. `max_delta` is the largest
    difference of an output from the full network with the same channels set to 0, in float64, next to outputs as large as
    `max_output`: rounding where all groups are exact, and else how far apart the two are.
    """

    network: nn.Module
    keep: Chosen
    kinds: Mapping[str, str]
    rolled_back: Mapping[str, str]
    max_delta: float
    max_output: float
    num_parameters: int


@dataclass(frozen=True)
class _Proof:
    """What checks of one network share."""

    network: nn.Module
    groups: Mapping[str, Group]
    findings: Findings
    inputs: list[Tensor]
    shapes: Shapes


def verify(network: nn.Module, groups: Sequence[Group], keep: Mapping[str, Sequence[int]], example: Tensor) -> Verified:
    """Shrink a network to `keep` and check the result on random inputs like `example`, of shape (N, ...).

    Groups that do not pass are left whole and named. The given network is not changed.
    """
    inputs = random_inputs(example)
    shapes = [output_shapes(network, x) for x in inputs]
    proof = _Proof(network, {group.id: group for group in groups}, trace(network, example), inputs, shapes)
    chosen = {group_id: tuple(units) for group_id, units in keep.items() if len(units) < proof.groups[group_id].size}
    rolled_back: dict[str, str] = {}
    accepted = accept(chosen, lambda part: _problem(proof, part), rolled_back)
    return _report(proof, accepted, rolled_back)


def _problem(proof: _Proof, chosen: Chosen) -> str | None:
    kept = [(proof.groups[group_id], units) for group_id, units in chosen.items()]
    shrunk = copy.deepcopy(proof.network)
    problem = structure_problem(shrunk, kept, proof.inputs, proof.shapes)
    if problem is None and count_parameters(shrunk) != predict_parameters(proof.network, kept):
        problem = "the number of parameters is not the predicted one"
    if problem is None:
        problem = find_misplaced(proof.findings, trace(shrunk, proof.inputs[0]), kept_places(kept, proof.network))
    comparable = {group_id: units for group_id, units in chosen.items() if not proof.groups[group_id].is_mixed}
    if problem is None and comparable:
        delta, largest = _compare(proof, comparable, reads=True)
        if not delta <= TOLERANCE * largest:
            problem = f"outputs differ by {delta:.2g} from the network with these channels set to 0"
    return problem


def _compare(proof: _Proof, chosen: Chosen, *, reads: bool) -> tuple[float, float]:
    """Largest difference of the shrunk and the masked network, and largest output of the masked one, in float64."""
    kept = [(proof.groups[group_id], units) for group_id, units in chosen.items()]
    full = copy.deepcopy(proof.network).double()
    shrunk = shrink(full, [group for group, _ in kept], chosen)
    zero_channels(full, kept, reads=reads)
    delta = largest = 0.0
    with evaluating(full), evaluating(shrunk), torch.no_grad():
        for x in proof.inputs:
            x = x.double() if x.is_floating_point() else x
            for left, right in zip(output_tensors(full(x)), output_tensors(shrunk(x)), strict=True):
                difference = float((left.double() - right.double()).abs().max())
                delta = max(delta, math.inf if math.isnan(difference) else difference)
                largest = max(largest, float(left.double().abs().max()))
    return delta, largest


def _report(proof: _Proof, accepted: Chosen, rolled_back: Mapping[str, str]) -> Verified:
    network = shrink(proof.network, list(proof.groups.values()), accepted)
    kinds = _measured_kinds(proof, accepted)
    delta, largest = _compare(proof, accepted, reads=False)
    return Verified(network, accepted, kinds, rolled_back, delta, largest, count_parameters(network))


def _measured_kinds(proof: _Proof, accepted: Chosen) -> dict[str, str]:
    """exact or approximate for each cut group; where the trace says exact, it is measured too."""
    kinds = {group_id: proof.groups[group_id].kind for group_id in accepted}
    exact = {group_id: units for group_id, units in accepted.items() if kinds[group_id] == "exact"}
    if not exact or _is_equal(proof, exact):
        return dict(kinds)
    measured = {
        group_id: "exact" if _is_equal(proof, {group_id: units}) else "approximate" for group_id, units in exact.items()
    }
    return {**kinds, **measured}


def _is_equal(proof: _Proof, chosen: Chosen) -> bool:
    delta, largest = _compare(proof, chosen, reads=False)
    return delta <= TOLERANCE * largest


def count_parameters(network: nn.Module) -> int:
    """Numbers in all parameters, tied ones once."""
    return sum(parameter.numel() for parameter in network.parameters())


def predict_parameters(network: nn.Module, kept: Sequence[tuple[Group, Sequence[int]]]) -> int:
    """What `count_parameters` must give after shrinking, from the groups alone."""
    sizes = {name: list(parameter.shape) for name, parameter in network.named_parameters()}
    for side, places in _removed_places(kept).items():
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
        for (name, dim), places in _removed_places(kept).items()
    }


def _removed_places(kept: Sequence[tuple[Group, Sequence[int]]]) -> dict[tuple[str, int], set[int]]:
    removed: dict[tuple[str, int], set[int]] = {}
    for group, units in kept:
        gone = set(range(group.size)) - set(units)
        for member in group.members:
            places = {place for unit in gone for place in member.places[unit]}
            removed.setdefault((member.tensor, member.dim), set()).update(places)
    return removed
