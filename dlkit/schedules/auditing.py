"""Findings about a schedule: what is probably not intended, said before anything is trained."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dlkit.schedules.composition import Sequence
from dlkit.schedules.curves import Cosine, Linear, MultiStep, Polynomial, Step, WarmupStableDecay
from dlkit.schedules.cycles import CosineRestarts, Cyclic, OneCycle
from dlkit.schedules.plateau import Plateau
from dlkit.schedules.schedule_trace import Trace

_VISIBLE = 1e-3  # share of the peak from which on a difference shows
# the options of curves that are lengths or moments in the unit of the curve
_TIMES = ("T_max", "total_iters", "total_steps", "step_size", "T_0", "step_size_up", "timescale")


@dataclass(frozen=True)
class Finding:
    """One finding: a short code for programs, and a sentence for people."""

    code: str
    message: str


def audit(trace: Trace) -> list[Finding]:
    """Find everything that looks unintended, the most serious first."""
    checks: tuple[Callable[[Trace], Iterator[Finding]], ...] = (
        _find_zeros,
        _find_mixed_units,
        _find_late_moments,
        _find_wrong_length,
        _find_unreached_floor,
        _find_open_cycle,
        _find_long_warmup,
        _find_momentum,
        _find_plateau_traps,
    )
    return [finding for check in checks for finding in check(trace)]


def _find_zeros(trace: Trace) -> Iterator[Finding]:
    if trace.lrs[0] == 0:
        yield Finding("zero-start", "step 0 uses LR 0, so it trains nothing: begin above 0 (warmup_from 0.01)")
    zeros = [step for step, lr in enumerate(trace.lrs) if lr == 0 and step]
    if zeros:
        which = f"{len(zeros):,} steps from step {zeros[0]:,} on use LR 0 and train nothing"
        if len(zeros) == 1:
            which = f"step {zeros[0]:,} uses LR 0 and trains nothing"
        yield Finding("zero", f"{which}: give a floor or more length")


def _find_mixed_units(trace: Trace) -> Iterator[Finding]:
    """Lengths that are written in steps and counted in epochs, or the other way round."""
    schedule = trace.schedule
    epochs = math.ceil(schedule.total_steps / schedule.steps_per_epoch)
    if schedule.steps_per_epoch == 1:
        return
    for option, value in _times(trace):
        if schedule.unit == "epoch" and epochs < value <= schedule.total_steps and value >= 2 * epochs:
            yield Finding(
                "units",
                f"{option}={value:,} is counted in epochs, but the run has {epochs:,}: "
                f"if steps are meant, say unit step; in epochs it is {value / schedule.steps_per_epoch:g}",
            )
        elif schedule.unit == "step" and value <= epochs and 10 * value <= schedule.total_steps and value >= 5:
            yield Finding(
                "units",
                f"{option}={value:,} is counted in steps ({value / schedule.steps_per_epoch:.2g} epochs): "
                f"if epochs are meant, say unit epoch or {option}={value * schedule.steps_per_epoch:,}",
            )


def _times(trace: Trace) -> Iterator[tuple[str, int]]:
    curve = trace.schedule.curve
    for option in _TIMES:
        if isinstance(value := getattr(curve, option, None), int):
            yield option, value
    if isinstance(curve, MultiStep) and curve.milestones:
        yield "the last of milestones", curve.milestones[-1]


def _find_late_moments(trace: Trace) -> Iterator[Finding]:
    schedule, curve = trace.schedule, trace.schedule.curve
    end = schedule.length
    if isinstance(curve, MultiStep) and (late := [milestone for milestone in curve.milestones if milestone >= end]):
        yield Finding(
            "late-milestone",
            f"milestones {', '.join(map(str, late))} are past the last {schedule.unit} ({end - 1:,}) and never come",
        )
    if isinstance(curve, Step) and curve.step_size >= end:
        yield Finding(
            "late-milestone", f"step_size={curve.step_size:,} never comes: the last {schedule.unit} is {end - 1:,}"
        )


def _find_wrong_length(trace: Trace) -> Iterator[Finding]:
    """A curve that ends before the run or after it."""
    schedule, curve = trace.schedule, trace.schedule.curve
    if isinstance(curve, Sequence):
        yield from _find_wrong_sum(curve)
        return
    if not isinstance(curve, Cosine | Linear | Polynomial | OneCycle | WarmupStableDecay):
        return
    option = {Cosine: "T_max", Linear: "total_iters", Polynomial: "total_iters"}.get(type(curve), "total_steps")
    length, left = getattr(curve, option), schedule.length
    last = _short(trace.lrs[-1])
    if length > left:
        yield Finding(
            "cut",
            f"{option}={length:,} is longer than the run, which has {left:,} {schedule.unit}s for it: "
            f"it stops at {last}",
        )
    elif isinstance(curve, Cosine) and length < left - 1:
        yield Finding(
            "rises",
            f"the curve rises again after its end at {schedule.unit} {length:,} (T_max), to {last} on the last step: "
            f"T_max={left:,} ends with the run",
        )
    elif length < left - 1 and not isinstance(curve, Linear):
        yield Finding(
            "short", f"the curve ends at {schedule.unit} {length:,} of {left:,}; the rest stays where it ended"
        )


def _find_wrong_sum(curve: Sequence) -> Iterator[Finding]:
    total, planned = curve.total_steps or 0, sum(piece.steps for piece in curve.parts)
    if planned > total:
        yield Finding("cut", f"the pieces take {planned:,} steps, but the run has {total:,}")
    elif planned < total:
        yield Finding("short", f"the pieces end at step {planned:,} of {total:,}; the rest stays where they ended")


def _find_unreached_floor(trace: Trace) -> Iterator[Finding]:
    curve, last = trace.schedule.curve, trace.lrs[-1]
    peak = max(trace.lrs)
    if isinstance(curve, Cosine) and last - curve.eta_min > _VISIBLE * peak and curve.T_max == trace.schedule.length:
        advice = f"T_max={curve.T_max - 1:,} reaches it" if curve.T_max > 1 else "the curve has a single step"
        yield Finding(
            "eta-min", f"eta_min {_short(curve.eta_min)} is never used, the last step has {_short(last)}: {advice}"
        )
    if isinstance(curve, CosineRestarts) and curve.eta_min > 0:
        yield Finding(
            "eta-min", f"eta_min {_short(curve.eta_min)} is never used: a restart comes before each cycle reaches it"
        )
    floor = getattr(curve, "eta_min", 0.0)
    if floor > trace.base_lr:
        yield Finding("floor", f"eta_min {_short(floor)} is above the LR {_short(trace.base_lr)}, so the curve climbs")


def _find_open_cycle(trace: Trace) -> Iterator[Finding]:
    """A cycle that the end of the run cuts off."""
    schedule, curve = trace.schedule, trace.schedule.curve
    if not isinstance(curve, CosineRestarts | Cyclic):
        return
    share = trace.lrs[-1] / max(trace.lrs)
    if share <= 0.1:
        return
    advice = "let the last cycle end with the run"
    if isinstance(curve, CosineRestarts):
        ends = _cycle_ends(curve, 4 * schedule.length)
        near = min(ends, key=lambda end: abs(end - schedule.length))
        advice = f"cycles end at {schedule.unit} {near:,} (the run has {schedule.length:,} for them)"
    yield Finding("open-cycle", f"the run ends within a cycle, at {share:.0%} of the peak: {advice}")


def _cycle_ends(curve: CosineRestarts, most: int) -> list[int]:
    ends, length = [curve.T_0], curve.T_0
    while ends[-1] < most:
        length *= curve.T_mult
        ends.append(ends[-1] + length)
    return ends


def _find_long_warmup(trace: Trace) -> Iterator[Finding]:
    schedule = trace.schedule
    if schedule.warmup_steps * 2 > schedule.total_steps:
        share = schedule.warmup_steps / schedule.total_steps
        yield Finding("warmup", f"the warm-up takes {share:.0%} of the run: give it fewer steps, or check its unit")


def _find_momentum(trace: Trace) -> Iterator[Finding]:
    if trace.momenta is not None:
        low, high = min(trace.momenta), max(trace.momenta)
        yield Finding(
            "momentum",
            f"{trace.name} sets the momentum (Adam: beta1), {low:g} to {high:g}, whatever the optimizer was given: "
            "cycle_momentum=false leaves it alone",
        )


def _find_plateau_traps(trace: Trace) -> Iterator[Finding]:
    curve = trace.schedule.curve
    if not isinstance(curve, Plateau):
        return
    metrics = trace.metrics or ()
    if curve.threshold_mode == "rel" and any(metric < 0 for metric in metrics):
        yield Finding(
            "plateau-rel",
            "the metric is negative and threshold_mode is rel, so a slightly worse value counts as better: "
            "take threshold_mode=abs",
        )
    if metrics and len(metrics) <= curve.patience:
        yield Finding(
            "plateau-patience", f"patience {curve.patience} needs more than the {len(metrics)} values there are"
        )
    if any(math.isnan(metric) for metric in metrics):
        yield Finding("plateau-nan", "NaN in the metric counts as a bad value")


def _short(value: float) -> str:
    return f"{value:.3g}"
