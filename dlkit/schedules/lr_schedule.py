"""The learning rate of a whole run: a curve with its unit, the warm-up in front of it, and its length.

With a warm-up of W steps the rate at step k < W is `warmup_from + (1 - warmup_from) * k / W` times the curve; from step
W on it is the curve itself. A curve begins when the warm-up ends, so a cosine has `total_steps - W` steps and ends with
the run: the values of torch's `SequentialLR([LinearLR(warmup_from, total_iters=W), curve], [W])`. Curves whose options are
moments of the run (step, multistep, exponential) count from its start instead: milestone 30 is epoch 30, with or without
a warm-up. Counted in epochs, the rate of a curve changes only when an epoch begins; whole epochs of warm-up are skipped.

Unlike in torch's `SequentialLR`, nested sequences are not shifted by a step, a OneCycle at the end does not change the
warm-up of other parts, a plateau may have a warm-up, a warm-up may begin at 0, and the warm-up of a curve that begins
below its base rate (one-cycle, linear, cyclic) ends at that rate instead of the base rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from dlkit.errors import UsageError
from dlkit.schedules.curve_options import build_curve, find_curve, fit_length
from dlkit.schedules.curves import Curve, Tabulated
from dlkit.schedules.option_checks import check_choice, check_number, check_whole
from dlkit.schedules.plateau import Plateau


@runtime_checkable
class CyclesMomentum(Protocol):
    """A curve that changes the momentum too."""

    def momentum(self, step: int) -> float | None:
        """Momentum at a step, or None if it is not changed."""


@dataclass(frozen=True)
class LrSchedule:
    """The learning rate of a whole run as a pure function of the optimizer step.

    `unit` is what the curve counts, `step` or `epoch`. From step `held_from` on the rate of the step before it is held.
    """

    name: str
    curve: Curve | Plateau
    unit: str
    total_steps: int
    steps_per_epoch: int
    warmup_steps: int = 0
    warmup_from: float = 0.01
    held_from: int | None = None

    @property
    def is_plateau(self) -> bool:
        """Whether the rate also depends on a metric; then only `LearningRate` knows it."""
        return isinstance(self.curve, Plateau)

    def lr(self, step: int, base_lr: float) -> float:
        """The rate that optimizer step number `step` (from 0) uses, for a group with this base rate.

        For a plateau, pass the rate in its state; the warm-up is then applied to it.
        """
        curve, step = self.curve, self._within(step)
        lr = base_lr if isinstance(curve, Plateau) else curve.lr(self.position(step), base_lr)
        return lr if step >= self.warmup_steps else lr * self.warmup_factor(step)

    def momentum(self, step: int) -> float | None:
        """Momentum (Adam: beta1) at an optimizer step; None if the schedule does not change it.

        As in torch, a cycled momentum replaces what the optimizer was given, even a momentum of 0.
        """
        if self._cycle is None:
            return None
        return self._cycle.momentum(self.position(self._within(step)))

    @cached_property  # looking whether a class has all of a protocol takes longer than a step of a small network's optimizer
    def _cycle(self) -> CyclesMomentum | None:
        return self.curve if isinstance(self.curve, CyclesMomentum) else None

    def _within(self, step: int) -> int:
        return step if self.held_from is None else min(step, self.held_from - 1)

    def warmup_factor(self, step: int) -> float:
        """The factor of the warm-up: from `warmup_from` at step 0 to 1 at `warmup_steps`."""
        if step >= self.warmup_steps:
            return 1.0
        return self.warmup_from + (1.0 - self.warmup_from) * step / self.warmup_steps

    def position(self, step: int) -> int:
        """The step of the curve, in its own unit, at an optimizer step; 0 until the curve begins."""
        position = step // self.steps_per_unit - self.start
        return position if position > 0 else 0  # max would take longer than all else here

    @cached_property  # asked at every step, like the next one
    def steps_per_unit(self) -> int:
        """Optimizer steps to one unit of the curve."""
        return self.steps_per_epoch if self.unit == "epoch" else 1

    @cached_property
    def start(self) -> int:
        """When the curve begins, in its own unit: at 0 if it is dated, else when the warm-up ends."""
        return 0 if self.curve.is_dated else self.warmup_steps // self.steps_per_unit

    @property
    def length(self) -> int:
        """How long the curve is in this run, in its own unit, at least 1."""
        return self.position(self.total_steps - 1) + 1

    def describe(self) -> str:
        """One line for people: the warm-up, then the curve with all its options."""
        options = ", ".join(f"{name}={_plain(value)}" for name, value in shown_options(self.curve).items())
        curve = f"{self.name}({options}) per {self.unit}"
        if not self.warmup_steps:
            return curve
        return f"warm-up over {self.warmup_steps:,} steps from {self.warmup_from:g} of it, then {curve}"


def shown_options(curve: Curve | Plateau) -> dict[str, Any]:
    """The options of a curve as a config would write them."""
    if isinstance(curve, Tabulated):
        return dict(curve.options)
    return {field.name: getattr(curve, field.name) for field in fields(curve)}


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)


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
    """Build the schedule of a run of `total_steps` optimizer steps, with `steps_per_epoch` in an epoch.

    Options are the curve's own; lengths that are missing, None or `auto` become what the warm-up leaves of the run.
    Raises UsageError for an unknown name, an unknown or missing option, or a value that cannot work.
    """
    known, kind = find_curve(name)
    try:
        _check_frame(unit, warmup_steps, warmup_from, total_steps, steps_per_epoch)
        curve = build_curve(kind, options)
        if unit == "auto":
            unit = "epoch" if curve.is_dated else "step"
        return _fitted(LrSchedule(known, curve, unit, total_steps, steps_per_epoch, warmup_steps, warmup_from))
    except ValueError as error:
        raise UsageError(f"schedule {known}: {error}") from None


def _check_frame(unit: str, warmup_steps: int, warmup_from: float, total_steps: int, steps_per_epoch: int) -> None:
    check_choice("unit", unit, ("auto", "step", "epoch"))
    check_whole("warmup_steps", warmup_steps, least=0)
    check_number("warmup_from", warmup_from, least=0, most=1)
    check_whole("total_steps", total_steps, least=1)
    check_whole("steps_per_epoch", steps_per_epoch, least=1)


def _fitted(schedule: LrSchedule) -> LrSchedule:
    scale = schedule.steps_per_unit
    curve = fit_length(
        schedule.curve,
        left=schedule.length,
        warmup=schedule.warmup_steps // scale,
        steps_per_epoch=schedule.steps_per_epoch // scale,
    )
    return replace(schedule, curve=curve)


class LearningRate:
    """What a training loop holds: a rate per parameter group, and the state of a plateau if there is one.

        learning_rate = LearningRate(schedule, [group["lr"] for group in optimizer.param_groups])
        for step in range(first_step, total_steps):
            for group, lr in zip(optimizer.param_groups, learning_rate.lrs(step)):
                group["lr"] = lr
            ...                              # forward, backward, optimizer.step()
            learning_rate.observe(val_loss)  # after each validation; only a plateau uses it

    Except for a plateau everything is a pure function of the step, so a resumed run only needs its step.
    """

    def __init__(self, schedule: LrSchedule, base_lrs: Sequence[float]) -> None:
        self.schedule = schedule
        self.base_lrs = [float(lr) for lr in base_lrs]
        self.plateau = schedule.curve.start(self.base_lrs) if isinstance(schedule.curve, Plateau) else None

    def lrs(self, step: int) -> list[float]:
        """The rate of each group for optimizer step number `step`, from 0."""
        bases = self.base_lrs if self.plateau is None else self.plateau.lrs
        return [self.schedule.lr(step, base) for base in bases]

    def momentum(self, step: int) -> float | None:
        """Momentum (Adam: beta1) of all groups for a step; None if it is not changed."""
        return self.schedule.momentum(step)

    def observe(self, metric: float) -> bool:
        """Tell a plateau the metric of a validation; other schedules ignore it. Returns whether the rates fell."""
        return self.plateau is not None and self.plateau.step(metric)

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values; empty unless the schedule is a plateau."""
        return {} if self.plateau is None else {"plateau": self.plateau.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state. Raises ValueError if it belongs to another kind of schedule or other groups."""
        if (self.plateau is not None) != ("plateau" in state):
            raise ValueError(
                f"the saved schedule is {'a' if 'plateau' in state else 'no'} plateau, unlike {self.schedule.name}"
            )
        if self.plateau is not None:
            self.plateau.load_state_dict(state["plateau"])
