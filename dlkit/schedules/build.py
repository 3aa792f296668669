"""From a schedule's name and options, as a config writes them, to a `Schedule`."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, replace
from importlib import import_module
from typing import Any

from dlkit.errors import UsageError
from dlkit.registry.tables import SCHEDULES
from dlkit.schedules.curves import Curve
from dlkit.schedules.limits import check_choice, check_number, check_whole
from dlkit.schedules.plateau import Plateau
from dlkit.schedules.schedule import Schedule

# torch's arguments that a config says elsewhere
ELSEWHERE = {
    "max_lr": "the peak is optimizer.lr",
    "optimizer": "it is the one of the section optimizer",
    "last_epoch": "a resumed run continues by itself",
    "verbose": "the rate is logged at every step",
    "epochs": "the length of the run is train.epochs",
    "steps_per_epoch": "it follows from the data and the batch size",
    "total": "the length of the run is known",
}


def find_curve(name: str) -> tuple[str, type[Curve | Plateau]]:
    """The name dlkit uses and the class for any spelling of a built-in schedule (`multistep`, `MultiStepLR`).

    Raises UsageError for a name that is none of them.
    """
    for known, (target, also, _) in SCHEDULES.items():
        if name.casefold() in {spelling.casefold() for spelling in (known, *also)}:
            module, attribute = target.split(":")
            return known, getattr(import_module(module), attribute)
    raise UsageError(f"no built-in schedule {name!r}; there are {', '.join(SCHEDULES)}")


def build_schedule(
    name: str,
    options: Mapping[str, Any],
    *,
    unit: str = "auto",
    warmup_steps: int = 0,
    warmup_from: float = 0.01,
    total_steps: int,
    steps_per_epoch: int,
) -> Schedule:
    """The schedule of a run of `total_steps` optimizer steps, `steps_per_epoch` of them to an epoch.

    Options are the curve's own; lengths that are missing, None or `auto` become what the warm-up leaves of the run.
    Raises UsageError for an unknown name, an unknown or missing option, or a value that cannot work.
    """
    known, kind = find_curve(name)
    try:
        _check_frame(unit, warmup_steps, warmup_from, total_steps, steps_per_epoch)
        curve = build_curve(kind, options)
    except ValueError as error:
        raise UsageError(f"schedule {known}: {error}") from None
    if unit == "auto":
        unit = "epoch" if isinstance(curve, Plateau) or curve.is_dated else "step"
    schedule = Schedule(known, curve, unit, total_steps, steps_per_epoch, warmup_steps, warmup_from)
    return replace(schedule, curve=fit_length(curve, left=steps_left(schedule), warmup=_warmup_length(schedule)))


def _check_frame(unit: str, warmup_steps: int, warmup_from: float, total_steps: int, steps_per_epoch: int) -> None:
    check_choice("unit", unit, ("auto", "step", "epoch"))
    check_whole("warmup_steps", warmup_steps, least=0)
    check_number("warmup_from", warmup_from, least=0, most=1)
    check_whole("total_steps", total_steps, least=1)
    check_whole("steps_per_epoch", steps_per_epoch, least=1)


def build_curve(kind: type[Curve | Plateau], options: Mapping[str, Any]) -> Curve | Plateau:
    """A curve from plain options, its automatic lengths still open. Raises ValueError that says what would work."""
    known = {field.name: field for field in fields(kind)}
    for option in options:
        if option not in known:
            why = f": {ELSEWHERE[option]}" if option in ELSEWHERE else f"; it takes {', '.join(known) or 'none'}"
            raise ValueError(f"no option {option!r}{why}")
    given = {
        option: value for option, value in options.items() if not (_is_open(value) and known[option].default is None)
    }
    for option, field in known.items():
        if option not in given and _is_required(field):
            raise ValueError(f"{option} is needed, for example {option}: {EXAMPLES.get(option, 10)}")
    return kind(**given)


EXAMPLES: dict[str, object] = {"milestones": [30, 60], "gamma": 0.95, "step_size": 30, "T_0": 10, "base_lr": 1e-4}


def _is_open(value: object) -> bool:
    return value is None or value == "auto"


def _is_required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def steps_left(schedule: Schedule) -> int:
    """How much of the run the curve has, in its own unit, at least 1."""
    return schedule.position(schedule.total_steps - 1) + 1


def _warmup_length(schedule: Schedule) -> int:
    return schedule.warmup_steps // (schedule.steps_per_epoch if schedule.unit == "epoch" else 1)


def fit_length(curve: Curve | Plateau, *, left: int, warmup: int) -> Curve | Plateau:
    """The curve with its automatic lengths filled in: `left` is what the run has for it, in the curve's unit."""
    lengths = {"T_max": left, "total_iters": left, "total_steps": left, "timescale": warmup or 10_000}
    open_ones: dict[str, Any] = {
        option: length for option, length in lengths.items() if getattr(curve, option, 0) is None
    }
    return replace(curve, **open_ones) if open_ones else curve
