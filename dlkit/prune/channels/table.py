"""The groups as rows of a table: how many channels each keeps, whether that is exact, and why others stay whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dlkit.prune.channels.choice import ChannelLimits, Shares, prunable_groups, rounding_note
from dlkit.prune.channels.group import Group, Keep


@dataclass(frozen=True)
class GroupRow:
    """One group: channels of its first layer before and after, the layers that make them, `exact` or `approximate`.

    `note` is why the group stays whole or keeps another number than was asked for, or why its removal is only approximate.
    """

    id: str
    role: str
    layers: tuple[str, ...]
    num_channels: int
    num_kept: int
    kind: str
    note: str


def list_groups(
    groups: Sequence[Group],
    limits: ChannelLimits,
    keep: Keep,
    *,
    kinds: Mapping[str, str] | None = None,
    rolled_back: Mapping[str, str] | None = None,
    shares: Shares | None = None,
) -> list[GroupRow]:
    """One row for each group, with those that stay whole. `kinds` are measured ones; without them those of the trace count.

    `shares` are what every group was to lose; None where that is not decided group by group.
    """
    open_ids = {group.id for group in prunable_groups(groups, limits)}
    rows = [_row(group, open_ids, keep, kinds or {}, rolled_back or {}) for group in groups]
    return [
        _with_rounding(row, group, limits, shares) if group.id in keep and group.id not in (rolled_back or {}) else row
        for row, group in zip(rows, groups, strict=True)
    ]


def _with_rounding(row: GroupRow, group: Group, limits: ChannelLimits, shares: Shares | None) -> GroupRow:
    share = shares.get(group.id, 0.0) if isinstance(shares, Mapping) else shares
    notes = (rounding_note(group, row.num_kept, share, limits), row.note)
    return replace(row, note="; ".join(note for note in notes if note))


def _row(
    group: Group,
    open_ids: set[str],
    keep: Keep,
    kinds: Mapping[str, str],
    rolled_back: Mapping[str, str],
) -> GroupRow:
    units = len(keep.get(group.id, ())) or group.size
    is_cut = units < group.size
    if group.id in rolled_back:
        note = f"rolled back: {rolled_back[group.id]}"
    elif group.refusal:
        note = group.refusal
    elif group.id not in open_ids:
        note = "skipped"
    else:
        note = group.note
    layers = tuple(dict.fromkeys(member.module for member in group.members if member.part == "makes"))
    makers = layers or (group.id,)
    role = group.role if group.num_makers < 2 else f"{group.role} x{group.num_makers}"
    kind = kinds.get(group.id, group.kind) if is_cut else ""
    return GroupRow(group.id, role, makers, group.num_channels, group.num_channels * units // group.size, kind, note)
