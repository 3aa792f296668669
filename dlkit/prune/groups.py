"""Groups of coupled channels: which channels of which layers can only go together.

Written on our own trace of numbers (`coupling`), and not on torch-pruning, which couples whole dimensions and so fails
where code reshapes channels: it refuses ShuffleNet and ViT and cuts SqueezeNet's classes (`benchmarks/prune_zoo.py`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from dlkit.prune.coupling.assembly import Assembly, Bundle
from dlkit.prune.coupling.trace import trace
from dlkit.prune.coupling.tracer import Findings

Part = Literal["makes", "reads", "along"]
Role = Literal["inner", "residual", "fixed"]


@dataclass(frozen=True)
class Member:
    """One dimension of a parameter or buffer, and where each unit of the group stands along it.

    A weight `makes` channels or `reads` them; anything else lies `along` them: a bias, a norm, a depthwise weight, a
    scale. Places in a grouped convolution's dimension 1 count through all of its groups.
    """

    tensor: str
    dim: int
    part: Part
    places: tuple[tuple[int, ...], ...]

    @property
    def module(self) -> str:
        """Name of the module that holds the tensor."""
        return self.tensor.rpartition(".")[0]


@dataclass(frozen=True)
class Group:
    """Channels that are removed unit by unit: a unit is one channel in all its members at once, or several tied ones.

    Of each of the `blocks` of units the same share must be kept. `is_exact` says that removal is the same as setting
    weights to 0; otherwise `note` says why not. A `refusal` is the reason why the group is never pruned.
    """

    id: str
    size: int
    members: tuple[Member, ...]
    blocks: tuple[tuple[int, ...], ...]
    role: Role
    is_exact: bool
    note: str = ""
    refusal: str = ""

    @property
    def num_channels(self) -> int:
        """Channels of the first layer that makes them."""
        return sum(map(len, self.members[0].places))

    @property
    def num_makers(self) -> int:
        """How many weights make these channels."""
        return sum(member.part == "makes" for member in self.members)


def trace_groups(network: nn.Module, example: Tensor) -> tuple[list[Group], Findings]:
    """The groups as the trace shows them, and the trace. Whether code with sizes of its own bears a cut is not tried yet."""
    findings = trace(network, example)
    assembly = Assembly(findings)
    reasons = assembly.approximations()
    names: Counter[str] = Counter()
    groups = []
    for bundle in assembly.bundles():
        name = bundle.sides[0][0].rpartition(".")[0] or bundle.sides[0][0]
        names[name] += 1
        group_id = name if names[name] == 1 else f"{name}#{names[name]}"
        groups.append(_group(group_id, bundle, findings, reasons))
    return groups, findings


def _group(group_id: str, bundle: Bundle, findings: Findings, reasons: dict[int, str]) -> Group:
    members = tuple(
        Member(
            tensor=side[0],
            dim=side[1],
            part=_part(side, findings),
            places=tuple(tuple(unit.places.get(side, ())) for unit in bundle.units),
        )
        for side in bundle.sides
    )
    num_makers = sum(member.part == "makes" for member in members)
    notes = list(dict.fromkeys(reasons[unit.root] for unit in bundle.units if unit.root in reasons))
    return Group(
        id=group_id,
        size=len(bundle.units),
        members=members,
        blocks=bundle.blocks,
        role="fixed" if bundle.refusal else "residual" if num_makers > 1 else "inner",
        is_exact=not notes,
        note="; ".join(notes),
        refusal=bundle.refusal,
    )


def _part(side: tuple[str, int], findings: Findings) -> Part:
    if side in findings.makers:
        return "makes"
    return "reads" if side in findings.readers else "along"


def find_group(groups: Sequence[Group], group_id: str) -> Group:
    """The group of this id. Raises KeyError where there is none."""
    for group in groups:
        if group.id == group_id:
            return group
    raise KeyError(f"no group {group_id!r}")
