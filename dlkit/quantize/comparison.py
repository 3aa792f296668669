"""What quantization changed, against the float network: scores, agreement, size and latency; and what pruning and quantization
changed together, against the network before it was pruned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.benchmark import SpeedPlan, Speeds, TimedModel, measure_speeds
from dlkit.core.evaluation import (
    Comparison,
    NamedNetwork,
    Original,
    Scores,
    compare_networks,
    read_original,
)
from dlkit.core.modelfile import build_unchanged
from dlkit.quantize.calibration_data import CPU
from dlkit.quantize.task import Made, Task
from dlkit.tasks import METRICS, TRAITS

ORIGINAL, FLOAT, INT8 = "original", "float32", "int8"
# torch.compile takes minutes to start and runs no int8; `dlkit bench` measures it
ENGINES = ("eager", "channels_last", "frozen", "onnx")
TOTAL_ENGINES = ("eager", "channels_last", "frozen")


def compare(saved: Path, task: Task, made: Made) -> Comparison:
    """The float network before, the int8 network in `saved` after. Without data there are no scores."""
    size, seconds, data = tuple(task.file.spec.info.input_size), task.request.seconds, task.data
    plan = (
        SpeedPlan(size, CPU, engines=ENGINES, seconds=seconds, baseline=(FLOAT, "eager"))
        if seconds is not None
        else None
    )
    return compare_networks(
        NamedNetwork(FLOAT, task.network, task.file.path),
        NamedNetwork(INT8, made.network, saved),
        data.judged if data else None,
        scoring=data.scoring if data else None,
        speed_plan=plan,
        input_size=size,
        emit=task.emit,
    )


@dataclass(frozen=True)
class Total:
    """Both steps in one. `scores` are the metric that judges, before and after on the same samples, None where the file has none."""

    metric: str
    scores: tuple[float, float] | None
    size_ratio: float
    speeds: Speeds | None

    @property
    def drop(self) -> float | None:
        """Points lost in all; negative when it grew. None for a metric that is no fraction of 1."""
        is_told = self.scores is not None and METRICS[self.metric].is_percent
        return 100 * (self.scores[0] - self.scores[1]) if self.scores is not None and is_told else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            self.metric: list(self.scores) if self.scores else None,
            "drop_points": self.drop,
            "size_ratio": self.size_ratio,
            "speeds": self.speeds.to_dict() if self.speeds else None,
            "summary": list(self.sentences()),
        }

    def sentences(self) -> Iterator[str]:
        """What came of both steps together."""
        if self.scores is not None and self.drop is not None:
            before, after = self.scores
            yield f"{METRICS[self.metric].title} {before:.2%} became {after:.2%}, {-self.drop:+.2f} points"
        yield f"the file has {self.size_ratio:.1%} of the bytes"
        for batch in self.speeds.batches if self.speeds else ():
            best = self.speeds.fastest(INT8, batch) if self.speeds else None
            if best is not None and best.to_fastest_float is not None and self.speeds is not None:
                engines = f"{best.engine} against {self.speeds.fastest_float[batch]}"
                yield f"batch {batch}: {best.to_fastest_float} times as fast ({engines})"


def measure_total(saved: Path, task: Task, made: Made, scores: Scores) -> Total | None:
    """The int8 network, stored in `saved` and judged by `scores`, against the original; None where nothing was pruned.

    The original's weights are gone, but its speed does not depend on them: it is built anew and timed in turns with the int8
    network.
    """
    original = read_original(task.file.spec.provenance)
    if original is None:
        return None
    size_ratio = saved.stat().st_size / original.num_bytes
    metric = TRAITS[task.name].judging
    return Total(metric, _both_scores(metric, original, task, scores), size_ratio, _time_both_steps(task, made))


def _both_scores(metric: str, original: Original, task: Task, scores: Scores) -> tuple[float, float] | None:
    data = task.data.loaded.config.data.name if task.data else None
    before, after = original.score_on(data, scores, metric), scores.metrics.get(metric)
    return None if before is None or after is None else (before, after)


def _time_both_steps(task: Task, made: Made) -> Speeds | None:
    if task.request.seconds is None:
        return None
    network = build_unchanged(task.file, model=task.request.model)
    plan = SpeedPlan(tuple(task.file.spec.info.input_size), CPU, engines=TOTAL_ENGINES, seconds=task.request.seconds)
    return measure_speeds(
        [TimedModel(ORIGINAL, network, False, task.name), TimedModel(INT8, made.network, True, task.name)],
        plan,
        emit=task.emit,
    )
