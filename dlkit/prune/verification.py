"""Proof that a shrunk network computes what it should, group by group; a group without proof stays whole.

Every result passes: same output shapes at two batch sizes, no tensor without channels, the predicted number of
parameters, every channel arriving at the weights that were made for it (by a second trace), and in float64 the same
outputs as the full network with the removed channels set to 0. The last holds for all groups but those on whose channels
others depend through statistics, which no zeros can imitate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dlkit.prune.group import Group, Kind
from dlkit.prune.places import count_parameters
from dlkit.prune.proof import Proof
from dlkit.prune.shrinking import shrink
from dlkit.prune.trial import Chosen, accept


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
