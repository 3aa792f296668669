"""Turning what a trace found into bundles of units: a unit is one channel in all the places where it appears."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from dlkit.prune.dependency.tracer import Findings
from dlkit.prune.dependency.union_find import FREE, compact, varying_dims

Side = tuple[str, int]


@dataclass
class Unit:
    """One class of channels: its places along every side, and for each demand of equal parts how often it is in each part."""

    root: int
    places: dict[Side, list[int]] = field(default_factory=dict)
    parts: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    refusal: str = ""


@dataclass(frozen=True)
class Bundle:
    """Units with the same sides, in order. All demands of equal parts hold where the same share of every block is kept."""

    units: tuple[Unit, ...]
    sides: tuple[Side, ...]
    blocks: tuple[tuple[int, ...], ...]
    refusal: str


class TracedUnits:
    """The units of a trace, and the bundles that they form."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._vectors = self._side_vectors()
        self._units: dict[int, Unit] = {}
        for side, vector in self._vectors.items():
            for place, root in enumerate(vector.tolist()):
                if root != FREE:
                    self._units.setdefault(root, Unit(root)).places.setdefault(side, []).append(place)
        for labels, reason in findings.fixed:
            self._refuse(findings.classes.roots(labels).tolist(), reason)
        demands = [findings.classes.roots(rows).tolist() for rows in findings.parted]
        self._note_parts(demands)
        self._refuse_beside_refused(demands)

    def bundles(self) -> list[Bundle]:
        """Bundles of the units that some layer computes, in the order of those layers."""
        makers = self._findings.makers
        found: dict[tuple[object, ...], list[Unit]] = {}
        for unit in self._units.values():
            if any(side in makers for side in unit.places):
                found.setdefault((frozenset(unit.places), unit.refusal), []).append(unit)
        merged = self._merge(list(found.values()))
        order = {side: place for place, side in enumerate([*makers, *(s for s in self._vectors if s not in makers)])}
        bundles = [_bundle(units, order) for units in merged]
        return sorted(bundles, key=lambda bundle: (order[bundle.sides[0]], bundle.units[0].places[bundle.sides[0]]))

    def reasons(self, found: list[tuple[Tensor, str]]) -> dict[int, str]:
        """The first reason given for each class, by root."""
        reasons: dict[int, str] = {}
        for labels, reason in found:
            for root in self._findings.classes.roots(labels).tolist():
                reasons.setdefault(root, reason)
        return reasons

    def _side_vectors(self) -> dict[Side, Tensor]:
        """The root of every place along every side that takes part."""
        findings, roots = self._findings, self._findings.classes.roots
        vectors = {side: roots(findings.axis_nodes[side]) for side in findings.sides}
        for name, labels in findings.grouped_inputs.items():
            vectors[name, 1] = roots(labels)
        for name, nodes in findings.element_nodes.items():
            labels = compact(roots(nodes))
            dims = varying_dims(labels)
            if len(dims) != 1 or any((name, dim) in vectors for dim in range(labels.dim())):
                findings.fixed.append((labels.unique(), f"{name} cannot be cut along one dimension"))  # type: ignore[no-untyped-call]
            else:
                vectors[name, dims[0]] = labels.movedim(dims[0], 0).reshape(labels.shape[dims[0]], -1)[:, 0]
        return vectors

    def _refuse(self, roots: Iterable[int], reason: str) -> None:
        for root in roots:
            unit = self._units.get(root)
            if unit is not None and not unit.refusal:
                unit.refusal = reason

    def _note_parts(self, demands: list[list[list[int]]]) -> None:
        """Note for each unit how often it is in which part of a demand, unless it is in every part alike."""
        for index, rows in enumerate(demands):
            counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
            for part, row in enumerate(rows):
                for root in row:
                    counts[root][part] += 1
            for root, in_parts in counts.items():
                is_in_all_alike = len(in_parts) == len(rows) and len(set(in_parts.values())) == 1
                if root in self._units and not is_in_all_alike:
                    self._units[root].parts[index] = tuple(sorted(in_parts.items()))

    def _refuse_beside_refused(self, demands: list[list[list[int]]]) -> None:
        """Where a demand of equal parts has a channel that must stay, all of its channels must."""
        changed = True
        while changed:
            changed = False
            for rows in demands:
                roots = {root for row in rows for root in row}
                held = [root for root in roots if root not in self._units or self._units[root].refusal]
                free = [root for root in roots if root in self._units and not self._units[root].refusal]
                if held and free:
                    reason = self._units[held[0]].refusal if held[0] in self._units else "parts that no layer computes"
                    self._refuse(free, f"must stay equal to channels that cannot go ({reason})")
                    changed = True

    def _merge(self, bundles: list[list[Unit]]) -> list[list[Unit]]:
        """Put bundles together that share a demand of equal parts."""
        merged: list[list[Unit]] = []
        for units in bundles:
            demands = {index for unit in units for index in unit.parts}
            touching = [
                other
                for other in merged
                if other[0].refusal == units[0].refusal and demands & {i for unit in other for i in unit.parts}
            ]
            merged = [other for other in merged if not any(other is one for one in touching)]
            merged.append([unit for other in [*touching, units] for unit in other])
        return merged


def _bundle(units: list[Unit], order: dict[Side, int]) -> Bundle:
    sides = sorted({side for unit in units for side in unit.places}, key=order.__getitem__)
    units = sorted(units, key=lambda unit: min((order[side], places[0]) for side, places in unit.places.items()))
    blocks: dict[tuple[object, ...], list[int]] = {}
    for number, unit in enumerate(units):
        blocks.setdefault(tuple(sorted(unit.parts.items())), []).append(number)
    refusal = units[0].refusal
    if not refusal and math.gcd(*map(len, blocks.values())) == 1 and len(blocks) > 1:
        refusal = "the code cuts its channels into equal parts, which no smaller number allows"
    return Bundle(tuple(units), tuple(sides), tuple(map(tuple, blocks.values())), refusal)
