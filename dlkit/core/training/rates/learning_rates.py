"""The learning rates of an optimizer while it trains: from dlkit's own curves, or from a torch scheduler by name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from torch.optim import Optimizer

from dlkit.config import Schedule as ScheduleSection
from dlkit.core.components import ComponentError, check_options, import_target, is_import_path, known_entry
from dlkit.core.training.improvement import pick_mode
from dlkit.core.training.rates.torch_rates import SchedulerClass, build_torch_rates, is_torch_plateau
from dlkit.core.training.rates.torch_schedules import INJECTED
from dlkit.quantities import parse_length
from dlkit.schedules import LearningRate, LrSchedule, build_schedule


class LearningRates(Protocol):
    """Sets rates before each step. lr[k] is the value used by the k-th update, counted from 0."""

    @property
    def metric(self) -> str | None:
        """The column of metrics that the rates follow after evaluations; None where they follow none."""

    def set(self, optimizer: Optimizer, step: int) -> list[float]:
        """Put the rates of this step into the optimizer's groups, and return them."""

    def after_step(self) -> None:
        """Count an update."""

    def observe(self, metric: float) -> None:
        """Take in the value of `metric` of an evaluation."""

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""


class CurveRates:
    """Rates that are a pure function of the step (and of a plateau's past)."""

    def __init__(self, learning_rate: LearningRate, metric: str) -> None:
        self._learning_rate = learning_rate
        self.metric = metric if learning_rate.schedule.is_plateau else None

    def set(self, optimizer: Optimizer, step: int) -> list[float]:
        """Put the rates, and the momentum where it cycles, into the optimizer's groups."""
        lrs = self._learning_rate.lrs(step)
        momentum = self._learning_rate.momentum(step)
        for group, lr in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
            if momentum is not None:
                _set_momentum(group, momentum)
        return lrs

    def after_step(self) -> None:
        """Do nothing: the rate follows from the step."""

    def observe(self, metric: float) -> None:
        """Let a plateau see the metric."""
        self._learning_rate.observe(metric)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of a plateau."""
        return self._learning_rate.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._learning_rate.load_state_dict(state)


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    elif "momentum" in group:
        group["momentum"] = momentum


def pick_schedule(section: ScheduleSection, *, total_steps: int, steps_per_epoch: int) -> LrSchedule | SchedulerClass:
    """Returns the schedule of a config: one of dlkit's own curves, or a scheduler class, whose options are unchecked.

    Raises UsageError for an unknown name, for options that the curve does not take, and for a warm-up in front of a class.
    """
    frame = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    length = total_steps if section.length == "auto" else max(1, parse_length(section.length).to_steps(**frame))
    warmup = parse_length(section.warmup).to_steps(total_steps=length, steps_per_epoch=steps_per_epoch)
    warmup_steps = min(warmup, length)
    entry = None if is_import_path(section.name) else known_entry("schedules", section.name)
    if entry is not None and entry.is_ours:
        schedule = build_schedule(
            entry.name,
            _with_mode(section) if entry.name == "plateau" else section.options,
            unit=section.unit,
            warmup_steps=warmup_steps,
            warmup_from=section.warmup_from,
            total_steps=length,
            steps_per_epoch=steps_per_epoch,
        )
        return schedule if length == total_steps else replace(schedule, total_steps=total_steps, held_from=length)
    if warmup_steps:
        words = "warmup goes with dlkit's own curves, not with a scheduler class; see `dlkit list schedules`"
        raise ComponentError(words, option="warmup")
    builder = import_target(entry.target if entry else section.name)
    options = _with_mode(section) if is_torch_plateau(builder) else section.options
    steps_per_unit = steps_per_epoch if section.unit == "epoch" else 1
    return SchedulerClass(section.name, builder, options, steps_per_unit, length, is_held=length < total_steps)


def _with_mode(section: ScheduleSection) -> dict[str, Any]:
    """The options of a plateau, with the direction in which its metric is better."""
    return {"mode": pick_mode(section.metric)} | section.options


def resolve_schedule(
    section: ScheduleSection, *, total_steps: int, steps_per_epoch: int
) -> LrSchedule | SchedulerClass:
    """Returns the schedule that a config trains with. Raises UsageError as `pick_schedule`, also for a class's options."""
    schedule = pick_schedule(section, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    if isinstance(schedule, SchedulerClass):
        check_options(schedule.builder, schedule.filled([0.0]).options, injected=INJECTED)
    return schedule


def build_learning_rates(
    schedule: LrSchedule | SchedulerClass, optimizer: Optimizer, *, metric: str = "val_loss"
) -> LearningRates:
    """Returns the learning rates of an optimizer whose groups hold `initial_lr`; `metric` is for those that follow one.

    Raises ComponentError for refused values.
    """
    if isinstance(schedule, LrSchedule):
        return CurveRates(LearningRate(schedule, [group["initial_lr"] for group in optimizer.param_groups]), metric)
    return build_torch_rates(schedule, optimizer, metric=metric)
