"""Channels removed for real: which belong together, which matter least, how they are cut out, and the proof of it."""

from dlkit.prune.channels.choice import ChannelLimits, best_units, choose, nearest_size, prunable_groups
from dlkit.prune.channels.cutting import shrink, zero_channels
from dlkit.prune.channels.group import Group
from dlkit.prune.channels.grouping import find_groups
from dlkit.prune.channels.importance import score, score_taylor
from dlkit.prune.channels.layer_sizes import describe_sizes, resize
from dlkit.prune.channels.table import GroupRow, list_groups
from dlkit.prune.channels.targets import Space, TargetSolution, parse_target, show_cost, solve_target
from dlkit.prune.channels.verification import Verified, verify

__all__ = [
    "ChannelLimits",
    "Group",
    "GroupRow",
    "Space",
    "TargetSolution",
    "Verified",
    "best_units",
    "choose",
    "describe_sizes",
    "find_groups",
    "list_groups",
    "nearest_size",
    "parse_target",
    "prunable_groups",
    "resize",
    "score",
    "score_taylor",
    "show_cost",
    "shrink",
    "solve_target",
    "verify",
    "zero_channels",
]
