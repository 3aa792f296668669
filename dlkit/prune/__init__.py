"""Pruning: masks that set weights to zero, and networks that really get smaller, with recovery and a report of both."""

from dlkit.prune.amounts import Amount, parse_amount, parse_floor, parse_share, progress_of
from dlkit.prune.channels import (
    ChannelLimits,
    GroupRow,
    Target,
    choose,
    describe_sizes,
    find_groups,
    parse_target,
    replay,
    shrink_verified,
    unit_importance,
)
from dlkit.prune.mask_rounds import plan_masks, run_mask_rounds
from dlkit.prune.masks import LayerSparsity, total_sparsity
from dlkit.prune.opened_model import OpenedModel, open_for_pruning, open_task_data
from dlkit.prune.plan import PlannedLayer, ShrinkSizes, plan_mask_rows, plan_shrink_sizes
from dlkit.prune.recovery import Recovery, find_norms, read_rewind_weights, recalibrate_norms, recover
from dlkit.prune.report import PruneReport
from dlkit.prune.request import PruneRequest, check_request, describe_request
from dlkit.prune.run import prune_model
from dlkit.prune.saving import plan_paths, plan_picture
from dlkit.prune.scan import Scan, save_scan_picture, scan_model
from dlkit.prune.shrink_rounds import channel_masks, pick_units, plan_shrinking, run_shrink_rounds
