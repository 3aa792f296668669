"""From a schedule's name and options, as a config writes them, to a `LrSchedule`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dlkit.errors import UsageError
from dlkit.schedules.curves import Curve
from dlkit.schedules.limits import check_choice, check_number, check_whole
from dlkit.schedules.options import build_curve, find_curve, fit_length
from dlkit.schedules.plateau import Plateau
from dlkit.schedules.schedule import LrSchedule


def build_schedule(
    name: str,
    options: Mapping[str, Any],
    *,
    unit: str = "auto",
    warmup_steps: int = 0,
    warmup_from: float = 0.01,
    total_steps: int,
    steps_per_epoch: int,
) -> LrSchedule:
    """The schedule of a run of `total_steps` optimizer steps, `steps_per_epoch` of them to an epoch.

    Options are the curve's own; lengths that are missing, None or `auto` become what the warm-up leaves of the run.
    Raises UsageError for an unknown name, an unknown or missing option, or a value that cannot work.
    """
    known, kind = find_curve(name)
    try:
        _check_frame(unit, warmup_steps, warmup_from, total_steps, steps_per_epoch)
        curve = build_curve(kind, options)
        if unit == "auto":
            unit = default_unit(curve)
        return _fitted(LrSchedule(known, curve, unit, total_steps, steps_per_epoch, warmup_steps, warmup_from))
    except ValueError as error:
        raise UsageError(f"schedule {known}: {error}") from None


def _check_frame(unit: str, warmup_steps: int, warmup_from: float, total_steps: int, steps_per_epoch: int) -> None:
    check_choice("unit", unit, ("auto", "step", "epoch"))
    check_whole("warmup_steps", warmup_steps, least=0)
    check_number("warmup_from", warmup_from, least=0, most=1)
    check_whole("total_steps", total_steps, least=1)
    check_whole("steps_per_epoch", steps_per_epoch, least=1)


def default_unit(curve: Curve | Plateau) -> str:
    """What a curve counts unless told otherwise."""
    return "epoch" if isinstance(curve, Plateau) or curve.is_dated else "step"


def _fitted(schedule: LrSchedule) -> LrSchedule:
    scale = schedule.steps_per_unit
    curve = fit_length(
        schedule.curve,
        left=schedule.length,
        warmup=schedule.warmup_steps // scale,
        steps_per_epoch=schedule.steps_per_epoch // scale,
    )
    return replace(schedule, curve=curve)
