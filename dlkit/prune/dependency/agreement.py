"""Comparing two traces: whether in a shrunk network every channel still meets the weights that it met before."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dlkit.prune.dependency.tracer import Findings

Kept = Mapping[tuple[str, int], Sequence[int]]


def find_misplaced(original: Findings, shrunk: Findings, kept: Kept) -> str | None:
    """Name a place where the shrunk network joins channels that the original keeps apart; None where there is none.

    `kept` are, for each cut side, its original places that are left, in order. No numbers are compared, so the check also
    works for networks whose norms go over channels.
    """
    origin = torch.full((len(shrunk.classes),), -1)
    names: dict[int, str] = {}
    for side, nodes in shrunk.axis_nodes.items():
        if side[1] == 1 and side[0] in shrunk.grouped_inputs:
            continue
        before = original.classes.roots(original.axis_nodes[side])
        origin[nodes] = _pick(before, 0, kept.get(side))
        names |= dict.fromkeys(nodes.tolist(), side[0])
    for name, nodes in shrunk.element_nodes.items():
        before = original.classes.roots(original.element_nodes[name])
        for dim in range(before.dim()):
            before = _pick(before, dim, kept.get((name, dim)))
        origin[nodes.flatten()] = before.flatten()
        names |= dict.fromkeys(nodes.flatten().tolist(), name)
    return _first_conflict(shrunk, origin, names)


def _pick(labels: Tensor, dim: int, places: Sequence[int] | None) -> Tensor:
    return labels if places is None else labels.index_select(dim, torch.tensor(places))


def _first_conflict(shrunk: Findings, origin: Tensor, names: Mapping[int, str]) -> str | None:
    nodes = torch.arange(len(origin))[origin >= 0]
    roots = shrunk.classes.roots(nodes)
    lowest = torch.full((len(origin),), len(origin) + int(origin.max()) + 1).scatter_reduce(
        0, roots, origin[nodes], "amin"
    )
    wrong = nodes[lowest[roots] != origin[nodes]]
    if not len(wrong):
        return None
    node = int(wrong[0])
    other = int(nodes[(roots == shrunk.classes.roots(wrong[:1])) & (lowest[roots] == origin[nodes])][0])
    return f"channels of {names[node]} and {names[other]} that do not belong together meet"
