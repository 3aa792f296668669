"""The values of a schedule at every step of a run, their summary, and the steps worth marking."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from dlkit.schedules.composition import Sequence as Composition
from dlkit.schedules.curves import MultiStep
from dlkit.schedules.lr_schedule import LearningRate, LrSchedule


@dataclass(frozen=True)
class Trace:
    """The values of a whole run. `lrs[k]` is used by the k-th `optimizer.step()`, and `momenta[k]` if momentum is cycled.

    `metrics` are those that a plateau saw, one per epoch; `falls` are the first steps with a lowered rate.
    """

    schedule: LrSchedule
    base_lr: float
    lrs: Sequence[float]
    momenta: Sequence[float] | None = None
    metrics: Sequence[float] | None = None
    falls: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The schedule's name."""
        return self.schedule.name


@dataclass(frozen=True)
class Summary:
    """The figures of a trace. `area` is the sum over all steps, `tiny_share` the share of steps under 1 % of the peak."""

    peak: float
    peak_step: int
    first: float
    last: float
    mean: float
    area: float
    tiny_share: float


def follow(schedule: LrSchedule, base_lr: float, metrics: Sequence[float] | None = None) -> Trace:
    """Compute the values of a run. A plateau needs the metrics, one per epoch, and sees each at the end of its epoch."""
    if schedule.is_plateau:
        return _follow_plateau(schedule, base_lr, metrics or ())
    steps = range(schedule.total_steps)
    momenta = [schedule.momentum(step) for step in steps] if schedule.momentum(0) is not None else None
    return Trace(schedule, base_lr, [schedule.lr(step, base_lr) for step in steps], momenta)  # type: ignore[arg-type]


def _follow_plateau(schedule: LrSchedule, base_lr: float, metrics: Sequence[float]) -> Trace:
    learning_rate = LearningRate(schedule, [base_lr])
    lrs, falls = [], []
    for step in range(schedule.total_steps):
        epoch, within = divmod(step, schedule.steps_per_epoch)
        if within == 0 and 0 < epoch <= len(metrics) and learning_rate.observe(metrics[epoch - 1]):
            falls.append(step)
        lrs += learning_rate.lrs(step)
    return Trace(schedule, base_lr, lrs, metrics=tuple(metrics), falls=tuple(falls))


def summarize(trace: Trace) -> Summary:
    """Compute the figures of a trace."""
    peak = max(trace.lrs)
    area = fsum(trace.lrs)
    tiny = sum(lr < 0.01 * peak for lr in trace.lrs)
    return Summary(
        peak=peak,
        peak_step=trace.lrs.index(peak),
        first=trace.lrs[0],
        last=trace.lrs[-1],
        mean=area / len(trace.lrs),
        area=area,
        tiny_share=tiny / len(trace.lrs),
    )


@dataclass(frozen=True)
class Marker:
    """A step worth marking, and why."""

    step: int
    label: str


def find_markers(trace: Trace) -> list[Marker]:
    """Find the end of the warm-up, milestones, joints of a composition and falls of a plateau, within the run."""
    schedule, curve = trace.schedule, trace.schedule.curve
    scale = schedule.steps_per_unit
    markers = [Marker(schedule.warmup_steps, "warm-up ends")] if schedule.warmup_steps else []
    if isinstance(curve, MultiStep):
        markers += [Marker(milestone * scale, "milestone") for milestone in dict.fromkeys(curve.milestones)]
    if isinstance(curve, Composition):
        markers += [Marker((schedule.start + start) * scale, "next piece") for start in curve.starts[1:]]
    markers += [Marker(step, "plateau") for step in trace.falls]
    return [marker for marker in markers if 0 <= marker.step < schedule.total_steps]
