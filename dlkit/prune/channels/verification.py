"""Verifying a shrunk network: it must compute what the full one computes with the same channels set to 0.

Every result passes: same output shapes at two batch sizes, no tensor without channels, the predicted number of
parameters, every channel read by the weights that read it before (by a second trace), and in float64 the same outputs as
the full network with the removed channels set to 0. The last does not hold for groups on whose channels others depend
through statistics, as no zeros have the same effect there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dlkit.core.models import copy_network, eval_mode, parameter_count, tensors_in, unfused_attention
from dlkit.prune.channels.cutting import kept_places, predict_parameters, shrink, zero_channels
from dlkit.prune.channels.group import Group, Keep, Kind, kept_units
from dlkit.prune.channels.trial_cuts import (
    CutProblem,
    example_inputs,
    find_structure_problem,
    largest_passing,
    output_shapes,
)
from dlkit.prune.dependency import find_misplaced, trace

TOLERANCE = 1e-7  # of the spread of outputs, in float64
ROUNDING = 1e-13  # of the largest output
FAINT = 1e-6  # outputs of different inputs that are closer than this share of the largest output


@dataclass(frozen=True)
class Verified:
    """A shrunk network that passed.

    `keep` are the units kept of each group that was cut. `rolled_back` is the reason for each group that stays whole
    although it was to be cut. `kinds` says of each cut group whether its removal is exact. `max_delta` is the largest
    difference of an output from the full network with the same channels set to 0, in float64, beside `max_output`, the
    largest output: rounding where all groups are exact, and else how far apart the two are.
    """

    network: nn.Module
    keep: Keep
    kinds: Mapping[str, Kind]
    rolled_back: Mapping[str, str]
    max_delta: float
    max_output: float
    num_parameters: int


def shrink_verified(network: nn.Module, groups: Sequence[Group], keep: Keep, example: Tensor) -> Verified:
    """Shrink a network to `keep` and verify the result on random inputs like `example`, of shape (N, ...).

    Groups that do not pass stay whole and are named. The given network is not changed.
    """
    verifier = _Verifier(network, groups, example)
    rolled_back: dict[str, str] = {}
    cut = {group.id: units for group, units in kept_units(groups, keep) if len(units) < group.size}
    passed = largest_passing(cut, verifier.find_problem, rolled_back)
    compared = verifier.compare_own(passed)
    shrunk = shrink(network, groups, passed)
    return Verified(
        network=shrunk,
        keep=passed,
        kinds=verifier.measure_kinds(passed),
        rolled_back=rolled_back,
        max_delta=compared.delta,
        max_output=compared.largest,
        num_parameters=parameter_count(shrunk)[0],
    )


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


class _Verifier:
    """Verifies choices of units of one network, on random inputs like an example."""

    def __init__(self, network: nn.Module, groups: Sequence[Group], example: Tensor) -> None:
        self._network = network
        self._groups = groups
        self._inputs = example_inputs(example)
        self._shapes = [output_shapes(network, x) for x in self._inputs]
        self._findings = trace(network, example)
        last = self._inputs[-1]
        self._x = last.double() if last.is_floating_point() else last
        self._shows_inputs = _shows_inputs(self._double(), self._x)
        self._compared: dict[tuple[tuple[str, ...], bool], OutputDifference] = {}

    def find_problem(self, keep: Keep) -> CutProblem | None:
        """Why the network with only these units would be wrong; None where it passes."""
        problem = self._find_structure_problem(keep)
        if problem is not None:
            return problem
        comparable = [group for group, _ in kept_units(self._groups, keep) if not group.is_mixed]
        units = {group.id: keep[group.id] for group in comparable}
        reads = any(group.kind != "exact" for group in comparable)
        compared = self.compare(units, reads=reads)
        if not compared.is_equal and not reads:
            compared = self.compare(units, reads=True)
        if compared.is_equal:
            return None
        return CutProblem(f"outputs differ by {compared.delta:.2g} from those with these channels set to 0")

    def _find_structure_problem(self, keep: Keep) -> CutProblem | None:
        shrunk = copy_network(self._network)
        problem = find_structure_problem(shrunk, self._groups, keep, inputs=self._inputs, shapes=self._shapes)
        if problem is not None:
            return problem
        if parameter_count(shrunk)[0] != predict_parameters(self._network, self._groups, keep):
            return CutProblem("the number of parameters is not the predicted one")
        places = kept_places(self._network, self._groups, keep)
        misplaced = find_misplaced(self._findings, trace(shrunk, self._inputs[0]), places)
        return None if misplaced is None else CutProblem(misplaced)

    def measure_kinds(self, keep: Keep) -> dict[str, Kind]:
        """Exact or approximate, for each cut group; where the trace says exact, it is measured too."""
        kinds = {group.id: group.kind for group, _ in kept_units(self._groups, keep)}
        exact = {group_id: units for group_id, units in keep.items() if kinds[group_id] == "exact"}
        if not self.compare(exact, reads=False).is_equal:
            for group_id, units in exact.items():
                if not self.compare({group_id: units}, reads=False).is_equal:
                    kinds[group_id] = "approximate"
        return kinds

    def compare_own(self, keep: Keep) -> OutputDifference:
        """Compare as `compare` does without `reads`, but always with the network's own weights."""
        if self._shows_inputs:
            return self.compare(keep, reads=False)
        return self._compare(self._double(), keep, reads=False)

    def compare(self, keep: Keep, *, reads: bool) -> OutputDifference:
        """Compare the shrunk network with the full one whose other channels are set to 0, in float64.

        With `reads`, the weights that read these channels are 0, too. Where the outputs do not show the inputs, weights that
        would hide mistakes are drawn anew first.
        """
        key = (tuple(sorted(keep)), reads)
        if key not in self._compared:
            network = self._double()
            if not self._shows_inputs:
                _draw_constants(network)
                _measure_batch_norms(network, self._x)
            self._compared[key] = self._compare(network, keep, reads=reads)
        return self._compared[key]

    def _double(self) -> nn.Module:
        """A float64 copy, made anew each time: a large network is not held twice."""
        return copy_network(self._network).double()

    def _compare(self, network: nn.Module, keep: Keep, *, reads: bool) -> OutputDifference:
        shrunk = shrink(network, self._groups, keep)
        zero_channels(network, self._groups, keep, reads=reads)
        delta = largest = spread = 0.0
        with eval_mode(network), eval_mode(shrunk), unfused_attention(), torch.no_grad():
            for full, small in zip(tensors_in(network(self._x)), tensors_in(shrunk(self._x)), strict=True):
                full, small = full.double(), small.double()
                delta = _larger(delta, full - small)
                largest = _larger(largest, full)
                spread = _larger(spread, full - full[:1])
        return OutputDifference(delta, largest, spread)


def _larger(value: float, tensor: Tensor) -> float:
    """The largest of a number and a tensor's absolute values; infinite where one of them is NaN."""
    found = float(tensor.abs().max()) if tensor.numel() else 0.0
    return math.inf if math.isnan(found) else max(value, found)


def _shows_inputs(network: nn.Module, x: Tensor) -> bool:
    """Whether every output differs visibly between the inputs of a batch."""
    with eval_mode(network), unfused_attention(), torch.no_grad():
        outputs = [output.double() for output in tensors_in(network(x)) if output.numel()]
    return all(float((out - out[:1]).abs().max()) > FAINT * float(out.abs().max()) for out in outputs)


def _draw_constants(network: nn.Module) -> None:
    """Add noise, in place, to parameters that are the same number throughout, such as zeros."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.add_(0.1 * noise.to(parameter.device))


def _measure_batch_norms(network: nn.Module, x: Tensor) -> None:
    """Set the running statistics of batch norms to those of x, in place."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    with eval_mode(network), unfused_attention(), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        network(x)
