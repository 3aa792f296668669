"""The torch code that gives the values of a schedule: a scheduler class if one is right, else `LambdaLR`."""

from collections.abc import Callable

from dlkit.errors import UsageError
from dlkit.schedules.composition import Sequence
from dlkit.schedules.curves import (
    Constant,
    ConstantFactor,
    Cosine,
    Curve,
    Exponential,
    InverseSqrt,
    Linear,
    MultiStep,
    Polynomial,
    Step,
    Tabulated,
    WarmupStableDecay,
)
from dlkit.schedules.cycles import CosineRestarts, Cyclic, OneCycle
from dlkit.schedules.lr_schedule import LrSchedule, shown_options
from dlkit.schedules.plateau import Plateau

_CLASSES: dict[type[Curve | Plateau], str] = {
    ConstantFactor: "ConstantLR",
    Step: "StepLR",
    MultiStep: "MultiStepLR",
    Exponential: "ExponentialLR",
    Cosine: "CosineAnnealingLR",
    Linear: "LinearLR",
    Polynomial: "PolynomialLR",
    CosineRestarts: "CosineAnnealingWarmRestarts",
    OneCycle: "OneCycleLR",
    Cyclic: "CyclicLR",
    Plateau: "ReduceLROnPlateau",
}
_CYCLE = """
def cycle(t, length, times):
    while t >= length:
        t, length = t - length, length * times
    return t / length
"""


def write_torch_code(schedule: LrSchedule, base_lr: float) -> str:
    """Write the Python that makes `scheduler` for an `optimizer` with the learning rate `base_lr`, and says when to step it.

    Raises UsageError if no torch scheduler can do it.
    """
    if isinstance(schedule.curve, Tabulated):
        raise UsageError(f"--code: {schedule.name} is a torch scheduler already")
    if schedule.held_from is not None:
        raise UsageError("--code: torch has no schedule that ends and holds its last rate (schedule.length)")
    if schedule.warmup_steps == 0 and _has_class(schedule):
        lines = [f"scheduler = {_class_call(schedule.curve, base_lr)}", _when_to_step(schedule)]
    elif _is_sequential(schedule):
        lines = _sequential(schedule, base_lr)
    else:
        lines = _lambda(schedule, base_lr)
    body = "\n".join(lines)
    imports = [f"import {module}" for module in ("math",) if f"{module}." in body]
    imports += ["from bisect import bisect_right"] if "bisect_right" in body else []
    head = [f"# {schedule.describe()}", f"# for an optimizer with lr={base_lr!r}"]
    return "\n".join([*head, *imports, "from torch.optim import lr_scheduler", "", body]) + "\n"


def _has_class(schedule: LrSchedule) -> bool:
    """Whether torch's class gives the same values in the whole run."""
    curve = schedule.curve
    if isinstance(curve, OneCycle):
        if schedule.length > (curve.total_steps or 0) or curve.pct_start * (curve.total_steps or 0) == 1:
            raise UsageError("--code: torch's OneCycleLR has no values for this length; let total_steps be the run's")
        return True
    starts_at_zero = (isinstance(curve, Linear) and curve.start_factor == 0) or (
        isinstance(curve, ConstantFactor) and curve.factor == 0
    )
    return type(curve) in _CLASSES and not starts_at_zero


def _is_sequential(schedule: LrSchedule) -> bool:
    """Whether SequentialLR of LinearLR and the class gives the same values."""
    curve = schedule.curve
    begins_at_base = isinstance(curve, Cosine | Polynomial | CosineRestarts | OneCycle)
    return schedule.warmup_from > 0 and schedule.unit == "step" and begins_at_base and _has_class(schedule)


def _class_call(curve: Curve | Plateau, base_lr: float) -> str:
    options = shown_options(curve)
    if isinstance(curve, OneCycle | Cyclic):
        options = {"max_lr": base_lr} | options
    if isinstance(curve, OneCycle):
        options["pct_start"] = float(curve.pct_start)
    words = ", ".join(
        f"{name}={list(value) if isinstance(value, tuple) else value!r}" for name, value in options.items()
    )
    return f"lr_scheduler.{_CLASSES[type(curve)]}(optimizer, {words})"


def _when_to_step(schedule: LrSchedule) -> str:
    if schedule.is_plateau:
        return "# after each validation: scheduler.step(metric)"
    when = "at the end of each epoch" if schedule.unit == "epoch" else "after each optimizer.step()"
    return f"# {when}: scheduler.step()"


def _sequential(schedule: LrSchedule, base_lr: float) -> list[str]:
    steps = schedule.warmup_steps
    return [
        f"warmup = lr_scheduler.LinearLR(optimizer, start_factor={schedule.warmup_from!r}, total_iters={steps})",
        f"curve = {_class_call(schedule.curve, base_lr)}",
        f"scheduler = lr_scheduler.SequentialLR(optimizer, [warmup, curve], milestones=[{steps}])",
        "# after each optimizer.step(): scheduler.step()",
    ]


def _lambda(schedule: LrSchedule, base_lr: float) -> list[str]:
    factor = _factor(schedule.curve, base_lr)
    helper = [*_CYCLE.strip().splitlines(), "", ""] if "cycle(" in factor else []
    lines = [*helper, "def factor(step):"]
    place = f"step // {schedule.steps_per_unit}" if schedule.steps_per_unit > 1 else "step"
    lines.append(f"    t = max({place} - {schedule.start}, 0)" if schedule.start else f"    t = {place}")
    if schedule.warmup_steps:
        low, steps = schedule.warmup_from, schedule.warmup_steps
        lines.append(f"    warmup = min({low!r} + {1.0 - low!r} * step / {steps}, 1.0)")
        factor = f"warmup * ({factor})"
    call = "scheduler = lr_scheduler.LambdaLR(optimizer, factor)"
    return [*lines, f"    return {factor}", "", "", call, "# after each optimizer.step(): scheduler.step()"]


def _factor(curve: Curve | Plateau, base_lr: float, t: str = "t") -> str:
    """An expression of the step `t` for the factor of the base rate."""
    writer = _WRITERS.get(type(curve))
    if writer is None:
        raise UsageError(
            f"--code: no torch scheduler gives {type(curve).__name__} behind this warm-up; "
            "take the values from -o FILE.csv, or leave the warm-up out"
        )
    return writer(curve, base_lr, t)


def _cosine(curve: Cosine, base_lr: float, t: str) -> str:
    return _above(curve.eta_min / base_lr, f"(1 + math.cos(math.pi * {t} / {curve.T_max})) / 2")


def _restarts(curve: CosineRestarts, base_lr: float, t: str) -> str:
    share = f"cycle({t}, {curve.T_0}, {curve.T_mult})"
    return _above(curve.eta_min / base_lr, f"(1 + math.cos(math.pi * {share})) / 2")


def _linear(curve: Linear, base_lr: float, t: str) -> str:
    rise = curve.end_factor - curve.start_factor
    return f"{curve.start_factor!r} + {rise!r} * min({t}, {curve.total_iters}) / {curve.total_iters}"


def _polynomial(curve: Polynomial, base_lr: float, t: str) -> str:
    return f"(1 - min({t}, {curve.total_iters}) / {curve.total_iters}) ** {curve.power!r}"


def _stable_decay(curve: WarmupStableDecay, base_lr: float, t: str) -> str:
    length = curve.total_steps or 1
    falling = length * curve.decay_share
    if not falling:
        return "1.0"
    share = f"min(max({t} - {length - falling!r}, 0) / {falling!r}, 1.0)"
    shapes = {
        "linear": f"1 - {share}",
        "cosine": f"(1 + math.cos(math.pi * {share})) / 2",
        "sqrt": f"1 - math.sqrt({share})",
    }
    return _above(curve.eta_min / base_lr, shapes[curve.decay])


def _sequence(curve: Sequence, base_lr: float, t: str) -> str:
    """Conditional expressions, the last piece first."""
    text = ""
    for start, piece in zip(curve.starts, curve.parts, strict=True):
        span = piece.peak - piece.floor
        inside = _factor(piece.curve, base_lr * (span or 1.0), f"min({t} - {start}, {piece.steps})")
        value = f"{piece.floor!r} + {span!r} * ({inside})"
        text = f"({value}) if {t} >= {start} else {text}" if text else value
    return text


def _above(floor: float, shape: str) -> str:
    return f"{floor!r} + {1 - floor!r} * ({shape})" if floor else shape


_WRITERS: dict[type[Curve | Plateau], Callable[..., str]] = {
    Constant: lambda curve, base_lr, t: "1.0",
    ConstantFactor: lambda curve, base_lr, t: f"{curve.factor!r} if {t} < {curve.total_iters} else 1.0",
    Step: lambda curve, base_lr, t: f"{curve.gamma!r} ** ({t} // {curve.step_size})",
    MultiStep: lambda curve, base_lr, t: f"{curve.gamma!r} ** bisect_right({list(curve.milestones)}, {t})",
    Exponential: lambda curve, base_lr, t: f"{curve.gamma!r} ** ({t})",
    Cosine: _cosine,
    CosineRestarts: _restarts,
    Linear: _linear,
    Polynomial: _polynomial,
    WarmupStableDecay: _stable_decay,
    InverseSqrt: lambda curve, base_lr, t: f"({curve.timescale} / ({t} + {curve.timescale})) ** 0.5",
    Sequence: _sequence,
}
