"""Finding the groups: which channels of which layers depend on each other, and which of them the code can lose.

Written on our own trace of numbers (`dependency`), and not on torch-pruning, which makes whole dimensions depend on each
other and so fails where code reshapes channels: it refuses ShuffleNet and ViT and cuts SqueezeNet's classes
(`benchmarks/prune_zoo.py`).
"""

from collections import Counter
from dataclasses import replace

from torch import Tensor, nn

from dlkit.prune.channels.group import Group, Member, Part
from dlkit.prune.channels.trial_cuts import refuse_untouchable
from dlkit.prune.dependency import Bundle, Findings, TracedUnits, trace


def find_groups(network: nn.Module, example: Tensor) -> list[Group]:
    """All groups of channels of a network, in the order of the layers that make them, with those that are never pruned.

    `example` is one batch of inputs, of shape (N, ...). The network runs in evaluation mode and is not changed. Each group
    is tried with its smallest cut and refused, with the reason, where the network's own code fails. Raises whatever the
    network raises for the example.
    """
    groups = _traced_groups(trace(network, example))
    refused = refuse_untouchable(network, [group for group in groups if not group.refusal], example)
    return [replace(group, refusal=refused.get(group.id, group.refusal)) for group in groups]


def _traced_groups(findings: Findings) -> list[Group]:
    """The groups as the trace shows them; whether code that relies on sizes can lose channels is not tried yet."""
    units = TracedUnits(findings)
    left_over, mixed = units.reasons(findings.left_over), units.reasons(findings.mixed)
    names: Counter[str] = Counter()
    groups = []
    for bundle in units.bundles():
        name = bundle.sides[0][0].rpartition(".")[0] or bundle.sides[0][0]
        names[name] += 1
        group_id = name if names[name] == 1 else f"{name}#{names[name]}"
        groups.append(_group(group_id, bundle, findings, left_over, mixed))
    groups += [_whole_group(name, size, reason) for name, (size, reason) in findings.whole.items() if not names[name]]
    return groups


def _whole_group(name: str, size: int, reason: str) -> Group:
    """A layer with channels that are not followed, so that the table names it with the reason."""
    return Group(
        id=name, size=size, members=(), blocks=(tuple(range(size)),), role="fixed", kind="exact", refusal=reason
    )


def _group(
    group_id: str, bundle: Bundle, findings: Findings, left_over: dict[int, str], mixed: dict[int, str]
) -> Group:
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
    roots = [unit.root for unit in bundle.units]
    notes = dict.fromkeys(reasons[root] for reasons in (mixed, left_over) for root in roots if root in reasons)
    return Group(
        id=group_id,
        size=len(bundle.units),
        members=members,
        blocks=bundle.blocks,
        role="fixed" if bundle.refusal else "residual" if num_makers > 1 else "inner",
        kind="approximate" if notes else "exact",
        is_mixed=any(root in mixed for root in roots),
        note="; ".join(notes),
        refusal=bundle.refusal,
    )


def _part(side: tuple[str, int], findings: Findings) -> Part:
    if side in findings.makers:
        return "makes"
    return "reads" if side in findings.readers else "along"
