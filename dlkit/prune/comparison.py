"""The network before and after pruning, side by side; without data only what can be counted and timed."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from dlkit.core.benchmark.speed import SpeedPlan, measure_speeds
from dlkit.core.benchmark.speed import Subject as Timed
from dlkit.core.evaluation.comparison import (
    Agreement,
    Compared,
    Comparison,
    Scores,
    Side,
    compare_networks,
    weigh_network,
)
from dlkit.core.evaluation.file_size import file_sizes
from dlkit.core.evaluation.original import Original
from dlkit.events import Emit
from dlkit.prune.opened_model import Subject

BEFORE, AFTER = "before", "after"
ENGINES = ("eager",)  # `dlkit bench` compares all of them


def compare(
    original: nn.Module, pruned: nn.Module, subject: Subject, *, seconds: float | None, emit: Emit
) -> Comparison:
    """Scores on the reporting split, costs, and latencies at batch 1 and 16; file sizes are added by `with_sizes`."""
    info, evidence = subject.file.spec.info, subject.evidence
    plan = SpeedPlan(info.input_size, subject.device, engines=ENGINES, seconds=seconds) if seconds else None
    if evidence is not None:
        return compare_networks(
            Compared(BEFORE, original),
            Compared(AFTER, pruned),
            evidence.reporting,
            scoring=evidence.scoring,
            speed_plan=plan,
            input_size=info.input_size,
            emit=emit,
        )
    nothing = Scores("", 0, {})
    sides = [
        Side(name, nothing, weigh_network(network, info.input_size, None))
        for name, network in ((BEFORE, original), (AFTER, pruned))
    ]
    timed = [Timed(BEFORE, original, is_int8=False), Timed(AFTER, pruned, is_int8=False)]
    speeds = measure_speeds(timed, plan, emit=emit) if plan else None
    return Comparison(sides[0], sides[1], Agreement(None, None), speeds)


def with_sizes(comparison: Comparison, before: Path, after: Path) -> Comparison:
    """The comparison with the sizes of both files, now that the second is written."""
    sides = [
        replace(side, costs=replace(side.costs, sizes=file_sizes(path)))
        for side, path in ((comparison.before, before), (comparison.after, after))
    ]
    return replace(comparison, before=sides[0], after=sides[1])


def describe_original(subject: Subject, before: Side) -> Original:
    """What the pruned file remembers of the network before."""
    data = subject.evidence.loaded.config.data.name if subject.evidence else None
    num_bytes = subject.file.path.stat().st_size
    return Original(before.costs.num_parameters, before.costs.macs, num_bytes, data, before.scores)
