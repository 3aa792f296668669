"""The network before and after pruning, side by side; without data only what can be counted and timed."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from dlkit.core.benchmark import SpeedPlan, TimedModel, measure_speeds
from dlkit.core.evaluation import (
    Agreement,
    Comparison,
    NamedNetwork,
    Original,
    Scores,
    Side,
    compare_networks,
    file_sizes,
    weigh_network,
)
from dlkit.events import Emit
from dlkit.prune.opened_model import OpenedModel

BEFORE, AFTER = "before", "after"
ENGINES = ("eager",)  # `dlkit bench` compares all of them


def compare(
    original: nn.Module, pruned: nn.Module, opened: OpenedModel, *, seconds: float | None, emit: Emit
) -> Comparison:
    """Measure scores on the reporting split, costs, and latencies at batch 1 and 16; `with_sizes` adds the sizes of files."""
    info, task_data = opened.file.spec.info, opened.task_data
    plan = SpeedPlan(info.input_size, opened.device, engines=ENGINES, seconds=seconds) if seconds else None
    if task_data is not None:
        return compare_networks(
            NamedNetwork(BEFORE, original),
            NamedNetwork(AFTER, pruned),
            task_data.reporting,
            scoring=task_data.scoring,
            speed_plan=plan,
            input_size=info.input_size,
            emit=emit,
        )
    nothing = Scores("", 0, {})
    sides = [
        Side(name, nothing, weigh_network(network, info.input_size, None))
        for name, network in ((BEFORE, original), (AFTER, pruned))
    ]
    timed = [TimedModel(BEFORE, original, is_int8=False), TimedModel(AFTER, pruned, is_int8=False)]
    speeds = measure_speeds(timed, plan, emit=emit) if plan else None
    return Comparison(sides[0], sides[1], Agreement(None, None), speeds)


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
