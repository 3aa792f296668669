"""The network before and after pruning, side by side; without data only what can be counted and timed."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from dlkit.core.benchmark import SpeedPlan
from dlkit.core.data import DataInfo
from dlkit.core.evaluation import Comparison, NamedNetwork, Original, Side, compare_networks, file_sizes
from dlkit.events import Emit
from dlkit.prune.opened_model import OpenedModel

BEFORE, AFTER = "before", "after"
ENGINES = ("eager",)  # `dlkit bench` compares all of them


def compare(
    original: nn.Module,
    pruned: nn.Module,
    opened: OpenedModel,
    *,
    info: DataInfo,
    seconds: float | None,
    emit: Emit,
) -> Comparison:
    """Measure scores on the reporting split, costs, and latencies at batch 1 and 16; `with_sizes` adds the sizes of files."""
    size, task_data = opened.file.spec.info.input_size, opened.task_data
    return compare_networks(
        NamedNetwork(BEFORE, original),
        NamedNetwork(AFTER, pruned, info=info),
        task_data.reporting if task_data else None,
        scoring=task_data.scoring if task_data else None,
        speed_plan=SpeedPlan(size, opened.device, engines=ENGINES, seconds=seconds) if seconds else None,
        input_size=size,
        emit=emit,
    )


def with_sizes(comparison: Comparison, before: Path, after: Path) -> Comparison:
    """Return the comparison with the sizes of both files, once the second is written."""
    sides = [
        replace(side, costs=replace(side.costs, sizes=file_sizes(path)))
        for side, path in ((comparison.before, before), (comparison.after, after))
    ]
    return replace(comparison, before=sides[0], after=sides[1])


def describe_original(opened: OpenedModel, before: Side) -> Original:
    """What the pruned file says of the network before."""
    data = opened.task_data.loaded.config.data.name if opened.task_data else None
    num_bytes = opened.file.path.stat().st_size
    return Original(before.costs.num_parameters, before.costs.macs, num_bytes, data, before.scores)
