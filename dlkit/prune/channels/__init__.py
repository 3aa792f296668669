"""Channels removed for real: which depend on each other, which matter least, how they are cut out, and how that is verified."""

from dlkit.prune.channels.choice import ChannelLimits, Shares, best_units, choose, nearest_size, prunable_groups
from dlkit.prune.channels.cutting import shrink, zero_channels
from dlkit.prune.channels.group import Group, Keep
from dlkit.prune.channels.grouping import find_groups
from dlkit.prune.channels.importance import taylor_importance, unit_importance
from dlkit.prune.channels.layer_sizes import describe_sizes, replay, resize
from dlkit.prune.channels.table import GroupRow, list_groups
from dlkit.prune.channels.targets import Space, Target, TargetSolution, parse_target, show_cost, solve_target
from dlkit.prune.channels.verification import Verified, shrink_verified
