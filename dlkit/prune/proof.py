"""The checks that a shrunk network passes, and what they share."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.prune.coupling.agreement import find_misplaced
from dlkit.prune.coupling.trace import evaluating, output_tensors, trace
from dlkit.prune.enlivening import enliven, is_lively
from dlkit.prune.group import Group
from dlkit.prune.places import count_parameters, kept_places, predict_parameters
from dlkit.prune.shrinking import shrink
from dlkit.prune.trial import Chosen, Problem, output_shapes, random_inputs, structure_problem
from dlkit.prune.zeroing import zero_channels

TOLERANCE = 1e-7  # of the spread of outputs, in float64
ROUNDING = 1e-13  # of the largest output


@dataclass(frozen=True)
class Compared:
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
        self._compared: dict[tuple[tuple[str, ...], bool], Compared] = {}

    def find_problem(self, chosen: Chosen) -> Problem | None:
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
        return Problem(f"outputs differ by {compared.delta:.2g} from those with these channels set to 0")

    def _find_structure_problem(self, kept: Sequence[tuple[Group, Sequence[int]]]) -> Problem | None:
        shrunk = copy.deepcopy(self.network)
        problem = structure_problem(shrunk, kept, self._inputs, self._shapes)
        if problem is not None:
            return problem
        if count_parameters(shrunk) != predict_parameters(self.network, kept):
            return Problem("the number of parameters is not the predicted one")
        places = kept_places(kept, self.network)
        misplaced = find_misplaced(self._findings, trace(shrunk, self._inputs[0]), places)
        return None if misplaced is None else Problem(misplaced)

    def compare(self, chosen: Chosen, *, reads: bool) -> Compared:
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

    def compare_own(self, chosen: Chosen) -> Compared:
        """The same with the network's own weights, whatever they are, and only what makes the channels set to 0."""
        if self._is_lively:
            return self.compare(chosen, reads=False)
        return self._compare(self._double(), chosen, reads=False)

    def _double(self) -> nn.Module:
        """A float64 copy, made anew each time: a large network is not held twice."""
        return copy.deepcopy(self.network).double()

    def _compare(self, network: nn.Module, chosen: Chosen, *, reads: bool) -> Compared:
        kept = [(self.groups[group_id], units) for group_id, units in chosen.items()]
        shrunk = shrink(network, [group for group, _ in kept], chosen)
        zero_channels(network, kept, reads=reads)
        delta = largest = spread = 0.0
        with evaluating(network), evaluating(shrunk), torch.no_grad():
            for full, small in zip(output_tensors(network(self._x)), output_tensors(shrunk(self._x)), strict=True):
                full, small = full.double(), small.double()
                delta = _larger(delta, full - small)
                largest = _larger(largest, full)
                spread = _larger(spread, full - full[:1])
        return Compared(delta, largest, spread)


def _larger(value: float, tensor: Tensor) -> float:
    """The largest of a number and a tensor's sizes; infinite where there is none."""
    found = float(tensor.abs().max()) if tensor.numel() else 0.0
    return math.inf if math.isnan(found) else max(value, found)
