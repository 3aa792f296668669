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
from torch.nn.modules.batchnorm import _BatchNorm

from dlkit.core.models import eval_mode, output_tensors, unfused_attention
from dlkit.prune.channels.cutting import count_parameters, kept_places, predict_parameters, shrink, zero_channels
from dlkit.prune.channels.group import Group, Kind
from dlkit.prune.channels.trial_cuts import Chosen, CutProblem, accept, output_shapes, random_inputs, structure_problem
from dlkit.prune.dependency import find_misplaced, trace

TOLERANCE = 1e-7  # of the spread of outputs, in float64


ROUNDING = 1e-13  # of the largest output


@dataclass(frozen=True)
class OutputDifference:
    """Largest difference of outputs, largest output, and how far outputs of one batch are apart at most."""

    delta: float
    largest: float
    spread: float

    @property
    def is_equal(self) -> bool:
        """Whether the difference is rounding."""
        return self.delta <= TOLERANCE * self.spread + ROUNDING * self.largest


class Proof:
    """Checks choices of units of one network, on random inputs like an example."""

    def __init__(self, network: nn.Module, groups: Sequence[Group], example: Tensor) -> None:
        self.network = network
        self.groups = {group.id: group for group in groups}
        self._inputs = random_inputs(example)
        self._shapes = [output_shapes(network, x) for x in self._inputs]
        self._findings = trace(network, example)
        last = self._inputs[-1]
        self._x = last.double() if last.is_floating_point() else last
        self._is_lively = is_lively(self._double(), self._x)
        self._compared: dict[tuple[tuple[str, ...], bool], OutputDifference] = {}

    def find_problem(self, chosen: Chosen) -> CutProblem | None:
        """Why the network without these units would be wrong; None where it passes every check."""
        problem = self._find_structure_problem([(self.groups[name], units) for name, units in chosen.items()])
        if problem is not None:
            return problem
        comparable = {group_id: units for group_id, units in chosen.items() if not self.groups[group_id].is_mixed}
        reads = any(self.groups[group_id].kind != "exact" for group_id in comparable)
        compared = self.compare(comparable, reads=reads)
        if not compared.is_equal and not reads:
            compared = self.compare(comparable, reads=True)
        if compared.is_equal:
            return None
        return CutProblem(f"outputs differ by {compared.delta:.2g} from those with these channels set to 0")

    def _find_structure_problem(self, kept: Sequence[tuple[Group, Sequence[int]]]) -> CutProblem | None:
        shrunk = copy.deepcopy(self.network)
        problem = structure_problem(shrunk, kept, self._inputs, self._shapes)
        if problem is not None:
            return problem
        if count_parameters(shrunk) != predict_parameters(self.network, kept):
            return CutProblem("the number of parameters is not the predicted one")
        places = kept_places(kept, self.network)
        misplaced = find_misplaced(self._findings, trace(shrunk, self._inputs[0]), places)
        return None if misplaced is None else CutProblem(misplaced)

    def compare(self, chosen: Chosen, *, reads: bool) -> OutputDifference:
        """The shrunk network and the full one with the same channels set to 0, in float64.

        With `reads`, also what the next layers make of the channels is 0. Weights that would hide mistakes are drawn
        anew for this.
        """
        key = (tuple(sorted(chosen)), reads)
        if key not in self._compared:
            network = self._double()
            if not self._is_lively:
                enliven(network, self._x)
            self._compared[key] = self._compare(network, chosen, reads=reads)
        return self._compared[key]

    def compare_own(self, chosen: Chosen) -> OutputDifference:
        """The same with the network's own weights, whatever they are, and only what makes the channels set to 0."""
        if self._is_lively:
            return self.compare(chosen, reads=False)
        return self._compare(self._double(), chosen, reads=False)

    def _double(self) -> nn.Module:
        """A float64 copy, made anew each time: a large network is not held twice."""
        return copy.deepcopy(self.network).double()

    def _compare(self, network: nn.Module, chosen: Chosen, *, reads: bool) -> OutputDifference:
        kept = [(self.groups[group_id], units) for group_id, units in chosen.items()]
        shrunk = shrink(network, [group for group, _ in kept], chosen)
        zero_channels(network, kept, reads=reads)
        delta = largest = spread = 0.0
        with eval_mode(network), eval_mode(shrunk), unfused_attention(), torch.no_grad():
            for full, small in zip(output_tensors(network(self._x)), output_tensors(shrunk(self._x)), strict=True):
                full, small = full.double(), small.double()
                delta = _larger(delta, full - small)
                largest = _larger(largest, full)
                spread = _larger(spread, full - full[:1])
        return OutputDifference(delta, largest, spread)


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
    kinds: Mapping[str, Kind]
    rolled_back: Mapping[str, str]
    max_delta: float
    max_output: float
    num_parameters: int


def verify(network: nn.Module, groups: Sequence[Group], keep: Mapping[str, Sequence[int]], example: Tensor) -> Verified:
    """Shrink a network to `keep` and check the result on random inputs like `example`, of shape (N, ...).

    Groups that do not pass are left whole and named. The given network is not changed.
    """
    proof = Proof(network, groups, example)
    chosen = {group_id: tuple(units) for group_id, units in keep.items() if len(units) < proof.groups[group_id].size}
    rolled_back: dict[str, str] = {}
    accepted = accept(chosen, proof.find_problem, rolled_back)
    compared = proof.compare_own(accepted)
    shrunk = shrink(network, groups, accepted)
    return Verified(
        network=shrunk,
        keep=accepted,
        kinds=_measure_kinds(proof, accepted),
        rolled_back=rolled_back,
        max_delta=compared.delta,
        max_output=compared.largest,
        num_parameters=count_parameters(shrunk),
    )


def _measure_kinds(proof: Proof, accepted: Chosen) -> dict[str, Kind]:
    """exact or approximate for each cut group; where the trace says exact, it is measured too."""
    kinds = {group_id: proof.groups[group_id].kind for group_id in accepted}
    exact = {group_id: units for group_id, units in accepted.items() if kinds[group_id] == "exact"}
    if not proof.compare(exact, reads=False).is_equal:
        for group_id, units in exact.items():
            if not proof.compare({group_id: units}, reads=False).is_equal:
                kinds[group_id] = "approximate"
    return kinds


def _larger(value: float, tensor: Tensor) -> float:
    """The largest of a number and a tensor's sizes; infinite where there is none."""
    found = float(tensor.abs().max()) if tensor.numel() else 0.0
    return math.inf if math.isnan(found) else max(value, found)


FAINT = 1e-6  # outputs of different inputs that are closer than this share of the largest output


def is_lively(network: nn.Module, x: Tensor) -> bool:
    """Whether every output depends on the input visibly."""
    with eval_mode(network), unfused_attention(), torch.no_grad():
        outputs = [output.double() for output in output_tensors(network(x)) if output.numel()]
    return all(float((out - out[:1]).abs().max()) > FAINT * float(out.abs().max()) for out in outputs)


def enliven(network: nn.Module, x: Tensor) -> None:
    """Draw constant weights anew and measure batch norms on x, in place."""
    _draw_constants(network)
    _measure_batch_norms(network, x)


def _draw_constants(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.add_(0.1 * noise.to(parameter.device))


def _measure_batch_norms(network: nn.Module, x: Tensor) -> None:
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    with eval_mode(network), unfused_attention(), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        network(x)
