"""From what the line of `dlkit lr-plot` asks for to the learning rate of every step, and what is odd about it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlkit.cli.lr_plot.request import Frame, LrPlotRequest
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.schedules import Finding, LrSchedule, Trace

    Traced = tuple[Trace, list[Finding]]


def check_metric_is_followed(traces: "Sequence[Traced]") -> None:
    """Raise UsageError for a metric that no plateau follows."""
    if not any(trace.schedule.is_plateau for trace, _ in traces):
        raise UsageError("--metrics and --series are what a plateau follows; this schedule takes no metric")


def trace_all(request: LrPlotRequest, frame: Frame, *, lr: float, metrics: Sequence[float] | None) -> "list[Traced]":
    """Follow every schedule of the request. An option goes to the schedules that take it, at least to one."""
    if not lr > 0:
        raise UsageError(f"--lr must be above 0, got {lr:g}")
    return [
        _trace_one(name, options, frame, lr=lr, metrics=metrics)
        for name, options in zip(request.names, _share_options(request), strict=True)
    ]


def trace_config(
    request: LrPlotRequest, changes: Sequence[str], *, steps_per_epoch: int | None, metrics: Sequence[float] | None
) -> "Traced":
    """Follow the schedule that `dlkit train` uses for a config; the data are opened to count steps unless given."""
    from dlkit.config import load_config

    assert request.config is not None
    loaded = load_config(request.config, overrides=[*request.overrides, *changes])
    from dlkit.core.training import plan_schedule

    accumulate = loaded.config.train.accumulate
    schedule, lr = plan_schedule(loaded, num_batches=steps_per_epoch and steps_per_epoch * accumulate)
    return _follow(schedule, lr, metrics)


def _share_options(request: LrPlotRequest) -> list[dict[str, Any]]:
    if len(request.names) == 1:
        return [dict(request.options)]
    taken = [known_options(name) or request.options for name in request.names]
    if lost := [option for option in request.options if not any(option in known for known in taken)]:
        raise UsageError(f"none of {', '.join(request.names)} takes {lost[0]!r}")
    return [{option: value for option, value in request.options.items() if option in known} for known in taken]


def known_options(name: str) -> tuple[str, ...] | None:
    """The options of a built-in curve, or None for any other."""
    from dataclasses import fields

    from dlkit.schedules import find_curve

    try:
        return tuple(option.name for option in fields(find_curve(name)[1]))
    except UsageError:
        return None


def _trace_one(
    name: str, options: Mapping[str, Any], frame: Frame, *, lr: float, metrics: Sequence[float] | None
) -> "Traced":
    from dlkit.schedules import Finding

    filled = _fill_in(name, options, frame, lr=lr)
    schedule = _build(name, {**options, **filled}, frame, lr=lr)
    trace, findings = _follow(schedule, lr, metrics)
    words = {option: f"{value:.6g}" if isinstance(value, float) else f"{value}" for option, value in filled.items()}
    advice = "is only for this plot: a config has to give it"
    return trace, findings + [Finding("stand-in", f"{option}={value} {advice}") for option, value in words.items()]


def _follow(schedule: "LrSchedule", lr: float, metrics: Sequence[float] | None) -> "Traced":
    from dlkit.schedules import audit, follow

    if schedule.is_plateau and metrics is None:
        raise UsageError("plateau follows a metric: give --metrics FILE:COLUMN or --series '1 0.8 0.7*10'")
    trace = follow(schedule, lr, metrics)
    return trace, audit(trace)


def _fill_in(name: str, options: Mapping[str, Any], frame: Frame, *, lr: float) -> dict[str, Any]:
    """What a built-in curve needs and was not given."""
    from dlkit.schedules import find_curve, stand_ins

    if known_options(name) is None:
        return {}
    is_dated = getattr(find_curve(name)[1], "is_dated", False)
    in_epochs = frame.unit == "epoch" or (frame.unit == "auto" and is_dated)
    length = -(-frame.total_steps // frame.steps_per_epoch) if in_epochs else frame.total_steps
    return stand_ins(name, options, length=length, base_lr=lr)


def _build(name: str, options: Mapping[str, Any], frame: Frame, *, lr: float) -> "LrSchedule":
    """A built-in schedule, or a torch scheduler class by name or import path; only the second imports torch."""
    from dlkit.schedules import Constant, LrSchedule, build_schedule

    steps, per_epoch, warmup = frame.total_steps, frame.steps_per_epoch, frame.warmup_steps
    if known_options(name) is None:
        _refuse_unknown(name)
        from dlkit.core.training import build_torch_schedule

        unit = "step" if frame.unit == "auto" else frame.unit
        place = LrSchedule(name, Constant(), unit, steps, per_epoch, warmup, frame.warmup_from)
        return build_torch_schedule(name, options, place, base_lrs=[lr])
    return build_schedule(
        name,
        options,
        unit=frame.unit,
        warmup_steps=warmup,
        warmup_from=frame.warmup_from,
        total_steps=steps,
        steps_per_epoch=per_epoch,
    )


def _refuse_unknown(name: str) -> None:
    """Raise UsageError for what is neither an import path nor named like a torch class, before torch is imported."""
    if ":" in name or name.lower().endswith(("lr", "restarts", "scheduler")):
        return
    from dlkit.registry import entries
    from dlkit.suggestions import did_you_mean

    ours = [entry for entry in entries("schedules").values() if entry.is_ours]
    hint = did_you_mean(name, [spelling for entry in ours for spelling in entry.spellings])
    raise UsageError(f"no schedule {name!r}.{hint} There are {', '.join(entry.name for entry in ours)}")
