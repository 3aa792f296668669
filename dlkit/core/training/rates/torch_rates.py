"""A scheduler class of torch, or of a user, that runs beside an optimizer; tried on a small one before a run begins."""

import inspect
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dlkit.core.components import Builder, ComponentError
from dlkit.errors import DlkitError, first_line

METRIC, COUNT = "metric", "count"
# required arguments of a scheduler's step, by their usual names: the metric of an evaluation, or the units so far
_ARGUMENTS = dict.fromkeys(("metrics", "metric", "loss", "val_loss"), METRIC) | dict.fromkeys(
    ("epoch", "step", "num_updates", "num_steps", "iteration"), COUNT
)
MOST_TRIED = 20_000  # calls of step before a run, about 0.2 s


@dataclass(frozen=True)
class SchedulerClass:
    """A scheduler class of torch, or of a user, with its options, for `total_steps`; it counts `steps_per_unit` updates as one. With
    `is_held` the run is longer, and its last rate stays.
    """

    name: str
    builder: Builder
    options: Mapping[str, Any]
    steps_per_unit: int
    total_steps: int
    is_held: bool = False

    @property
    def unit(self) -> str:
        """What the scheduler counts."""
        return "step" if self.steps_per_unit == 1 else "epoch"

    def filled(self, base_lrs: Sequence[float]) -> "SchedulerClass":
        """The same with the options that follow from the run, for groups with these rates."""
        length = -(-self.total_steps // self.steps_per_unit)
        return replace(self, options=filled_options(self.builder, self.options, base_lrs, length=length))


class TorchRates:
    """A real torch scheduler, stepped once per update (`unit: step`), after each epoch's last one (`unit: epoch`), or, where its
    step wants a metric, after each evaluation.
    """

    def __init__(
        self, scheduler: Any, *, name: str, steps_per_unit: int, metric: str, held_from: int | None = None
    ) -> None:
        self._scheduler = scheduler
        self._held_from = held_from
        self._name = name
        self._argument = step_argument(scheduler, name)
        self.metric = metric if self._argument == METRIC else None
        self._steps_per_unit = steps_per_unit
        self._num_steps = 0

    def set(self, optimizer: Optimizer, step: int) -> list[float]:
        """Returns the rates that the scheduler has put into the groups."""
        return [float(group["lr"]) for group in optimizer.param_groups]

    def after_step(self) -> None:
        """Step the scheduler when its unit is over. Raises ComponentError for what it raises."""
        self._num_steps += 1
        num_units, rest = divmod(self._num_steps, self._steps_per_unit)
        is_held = self._held_from is not None and self._num_steps >= self._held_from
        if not rest and self.metric is None and not is_held:
            self._advance(*([num_units] if self._argument == COUNT else []))

    def observe(self, metric: float) -> None:
        """Step a scheduler that follows a metric. Raises ComponentError for what it raises."""
        if self.metric is not None:
            self._advance(metric)

    def _advance(self, *arguments: float) -> None:
        try:
            self._scheduler.step(*arguments)
        except DlkitError:
            raise
        except Exception as error:
            raise ComponentError(
                f"{self._name}.step() fails after update {self._num_steps}: {reason_of(error)}"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Returns the scheduler's own state and the number of updates."""
        return {"scheduler": self._scheduler.state_dict(), "num_steps": self._num_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the rates themselves come back with the optimizer's state."""
        self._scheduler.load_state_dict(state["scheduler"])
        self._num_steps = int(state["num_steps"])


def build_torch_rates(schedule: SchedulerClass, optimizer: Optimizer, *, metric: str) -> TorchRates:
    """Returns the rates of a scheduler class, after a trial of the whole run on an optimizer without parameters.

    Raises ComponentError for options that it refuses, a step that wants what dlkit does not know or that fails, and a state
    that no checkpoint can hold.
    """
    for group in optimizer.param_groups:
        group.pop("initial_lr", None)  # the scheduler notes it itself
    schedule = schedule.filled([float(group["lr"]) for group in optimizer.param_groups])
    trial = _small_copy(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says to those who call it in another order
        rates = _build(schedule, trial, metric)
        _try_state(rates, schedule.name)
        for _ in range(min(schedule.total_steps, MOST_TRIED * schedule.steps_per_unit)):
            rates.after_step()
        rates.observe(1.0)
        _try_state(rates, schedule.name)
    return _build(schedule, optimizer, metric)


def _build(schedule: SchedulerClass, optimizer: Optimizer, metric: str) -> TorchRates:
    return TorchRates(
        build_scheduler(schedule.builder, optimizer, schedule.options, schedule.name),
        name=schedule.name,
        steps_per_unit=schedule.steps_per_unit,
        held_from=schedule.total_steps if schedule.is_held else None,
        metric=metric,
    )


def is_torch_plateau(builder: Builder) -> bool:
    """Whether a class is torch's ReduceLROnPlateau or built on it."""
    return inspect.isclass(builder) and issubclass(builder, ReduceLROnPlateau)


def build_scheduler(builder: Builder, optimizer: Optimizer, options: Mapping[str, Any], name: str) -> Any:
    """Returns the scheduler of a class. Raises ComponentError where it cannot be built or is none."""
    try:
        scheduler = builder(optimizer, **options)
    except DlkitError:
        raise
    except Exception as error:
        raise ComponentError(f"{name} cannot be built: {reason_of(error)}") from error
    missing = [
        method for method in ("step", "state_dict", "load_state_dict") if not callable(getattr(scheduler, method, None))
    ]
    if missing:
        raise ComponentError(
            f"{name} gives {type(scheduler).__name__}, which has no {missing[0]}(); a scheduler is needed"
        )
    return scheduler


def reason_of(error: Exception) -> str:
    """What an error of somebody's scheduler says, with its class where that tells more."""
    text = first_line(error)
    return text if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: {text}"


def filled_options(
    builder: Builder, options: Mapping[str, Any], base_lrs: Sequence[float], *, length: int
) -> dict[str, Any]:
    """Returns the options with what follows from the run: lengths (`T_max`, `total_steps`, `total_iters`) that are missing where
    the class needs them, or `auto`, and `max_lr`.
    """
    follows = {"T_max": length, "total_steps": length, "total_iters": length, "max_lr": list(base_lrs)}
    parameters = inspect.signature(builder).parameters
    filled = dict(options)
    for option, value in follows.items():
        is_needed = option in parameters and parameters[option].default in (inspect.Parameter.empty, None)
        if filled.get(option) in (None, "auto") and (option in filled or (is_needed and "epochs" not in options)):
            filled[option] = value
    return filled


def step_argument(scheduler: Any, name: str) -> str | None:
    """Returns what the scheduler's `step` has to be given: METRIC, COUNT, or None for nothing.

    Raises ComponentError for anything else.
    """
    needed = [
        parameter.name
        for parameter in inspect.signature(scheduler.step).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if not needed:
        return None
    if len(needed) > 1 or needed[0] not in _ARGUMENTS:
        raise ComponentError(
            f"{name}.step() wants {', '.join(needed)}; dlkit gives it nothing, a metric (metrics), or how often it was called (epoch)"
        )
    return _ARGUMENTS[needed[0]]


def _small_copy(optimizer: Optimizer) -> Optimizer:
    """An optimizer with the same groups, settings and class, whose parameters hold nothing."""
    groups = [{**group, "params": [nn.Parameter(torch.zeros(0))]} for group in optimizer.param_groups]
    try:
        copied = type(optimizer)([dict(group) for group in groups])  # type: ignore[call-arg]  # of a subclass
    except Exception:  # a class of the user's own that wants more
        copied = SGD(groups)
    copied.defaults = dict(optimizer.defaults)
    return copied


def _try_state(rates: TorchRates, name: str) -> None:
    """Raise ComponentError for a state that cannot be read back from a checkpoint, where nothing but plain values is read."""
    buffer = io.BytesIO()
    try:
        torch.save(rates.state_dict(), buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:
        raise ComponentError(
            f"{name}.state_dict() cannot be kept in a checkpoint, which holds plain values: {first_line(error, 200)}"
        ) from error
