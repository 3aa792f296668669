"""Choosing the units of each group that stay: by importance and an amount, with floors, rounding and equal parts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from dlkit.choices import PruneScope
from dlkit.errors import UsageError
from dlkit.prune.channels.group import Group, Keep
from dlkit.prune.channels.importance import Importance
from dlkit.prune.skipping import check_globs, is_skipped

Shares = float | Mapping[str, float]  # to remove of all channels, or of each group by its id


@dataclass(frozen=True)
class ChannelLimits:
    """Limits of a choice: every layer keeps a multiple of `round_to` channels, at least the share `min_keep` and at least
    `round_to`; groups that the patterns `skip` match (`layer4.*`, `*.fc1`) stay whole.
    """

    round_to: int = 8
    min_keep: float = 0.1
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.round_to < 1:
            raise UsageError(f"--round-to {self.round_to}: must be 1 or more")
        if not 0 <= self.min_keep <= 1:
            raise UsageError(f"--min-keep {self.min_keep:g}: must be a share from 0 to 1")


_FREE = ChannelLimits(round_to=1, min_keep=0.0)


@dataclass(frozen=True)
class _Step:
    """One group losing its next units. `cost` is their mean importance; `share` is what the group will have lost by then, so
    that steps of equal cost spread evenly.
    """

    group_id: str
    size: int
    num_channels: float
    cost: float
    share: float


def choose(
    groups: Sequence[Group],
    importance: Importance,
    amount: Shares,
    *,
    limits: ChannelLimits,
    scope: PruneScope = "layer",
) -> Keep:
    """The units that stay, in order, of each group that may lose some.

    `amount` is the share of channels to remove, always of the original: of every group alike (scope layer), over all
    groups together, the least important first (global), or by group id. Each group gets the size that the limits allow
    nearest to the amount; of two equally near ones the larger. Among equally important units the later goes first.
    """
    open_groups = [group for group in prunable_groups(groups, limits) if group.id in importance]
    if isinstance(amount, Mapping):
        unknown = set(amount) - {group.id for group in open_groups}
        if unknown:
            raise UsageError(f"no group {sorted(unknown)[0]!r} that can be pruned")
        sizes = {group.id: nearest_size(group, amount.get(group.id, 0.0), limits) for group in open_groups}
    elif scope == "global":
        sizes = _global_sizes(open_groups, importance, amount, limits)
    else:
        sizes = {group.id: nearest_size(group, amount, limits) for group in open_groups}
    return {group.id: best_units(group, importance[group.id], sizes[group.id]) for group in open_groups}


def _global_sizes(
    groups: Sequence[Group], importance: Importance, amount: float, limits: ChannelLimits
) -> dict[str, int]:
    """Take steps down the groups' allowed sizes, the one with the least important units first, until the amount is reached."""
    sizes = {group.id: group.size for group in groups}
    steps = [step for group in groups for step in _steps(group, importance[group.id], limits)]
    left = amount * sum(group.num_channels for group in groups)
    closed: set[str] = set()
    for step in sorted(steps, key=lambda step: (step.cost, step.share)):
        if step.num_channels - left >= left - 1e-9:
            closed.add(step.group_id)  # it would overshoot by more than is missing; a smaller step may still fit
        if step.group_id not in closed:
            left -= step.num_channels
            sizes[step.group_id] = step.size
    return sizes


def _steps(group: Group, importance: Tensor, limits: ChannelLimits) -> Iterator[_Step]:
    """The steps from each allowed size to the next smaller one; a step never costs less than the one before it."""
    cost = -math.inf
    for larger, smaller in pairwise(_allowed_sizes(group, limits)):
        lost = set(best_units(group, importance, larger)) - set(best_units(group, importance, smaller))
        cost = max(cost, float(importance[sorted(lost)].double().mean()))
        yield _Step(
            group.id, smaller, group.num_channels * (larger - smaller) / group.size, cost, 1 - smaller / group.size
        )


def prunable_groups(groups: Sequence[Group], limits: ChannelLimits) -> list[Group]:
    """Groups that neither the network nor the user keeps whole. A pattern names a group or any layer in it.

    Raises UsageError for a pattern that matches nothing.
    """
    check_globs(limits.skip, [name for group in groups for name in _names(group)])
    return [group for group in groups if not group.refusal and not is_skipped(limits.skip, *_names(group))]


def _names(group: Group) -> list[str]:
    return [group.id, *(member.module for member in group.members if member.part != "reads")]


def nearest_size(group: Group, amount: float, limits: ChannelLimits) -> int:
    """The allowed number of units that is nearest to what is left of the group after removing the share `amount`."""
    wanted = group.size * (1 - amount)
    return min(_allowed_sizes(group, limits), key=lambda units: (round(abs(units - wanted), 9), -units))


def rounding_note(group: Group, num_kept: int, share: float | None, limits: ChannelLimits) -> str:
    """Why a group keeps another number of units than the share to remove says, where --round-to or --min-keep make it so.

    Without a share, only a group that cannot lose any is told.
    """
    if len(_allowed_sizes(group, limits)) == 1:
        return f"stays whole: no smaller multiple of {limits.round_to} (--round-to)"
    if share is None:
        return ""
    wanted = group.num_channels * nearest_size(group, share, _FREE) // group.size
    floor = limits.min_keep * group.size
    if num_kept == wanted:
        return ""
    if num_kept > wanted and nearest_size(group, share, replace(limits, round_to=1)) >= floor > group.size * (
        1 - share
    ):
        return f"at least {limits.min_keep:.0%} stays (--min-keep)"
    return f"multiple of {limits.round_to} nearest to {wanted} (--round-to)"


def _allowed_sizes(group: Group, limits: ChannelLimits) -> list[int]:
    """Numbers of units that may stay, downwards from all of them."""
    step = group.size // math.gcd(*map(len, group.blocks))
    floor = max(1, math.ceil(limits.min_keep * group.size - 1e-9))
    layers = [sum(map(len, member.places)) for member in group.members if member.part == "makes"]
    smaller = [units for units in range(step, group.size, step) if units >= floor]
    for multiple in _halves(limits.round_to):
        fitting = [
            units for units in smaller if all(_is_rounded(layer * units, group.size, multiple) for layer in layers)
        ]
        big_enough = [
            units for units in fitting if all(layer * units >= limits.round_to * group.size for layer in layers)
        ]
        if big_enough or step == 1:
            return [group.size, *reversed(big_enough)]
    return [group.size]


def _halves(number: int) -> Iterator[int]:
    """The number, its half, and so on down to 1: where equal parts allow no multiple of one, the next is tried."""
    while True:
        yield number
        if number == 1:
            return
        number //= 2


def _is_rounded(scaled: int, size: int, multiple: int) -> bool:
    return scaled % size == 0 and (scaled // size) % multiple == 0


def best_units(group: Group, importance: Tensor, size: int) -> tuple[int, ...]:
    """The `size` most important units, the same share of each block, in order. Of equal units the earlier stays."""
    values = importance.tolist()
    kept: list[int] = []
    for block in group.blocks:
        ranked = sorted(block, key=lambda unit: (-values[unit], unit))
        kept += ranked[: size * len(block) // group.size]
    return tuple(sorted(kept))
