"""Curves with cycles: restarts, the one-cycle policy and cyclic rates; the last two change the momentum too.

Differences, all where torch's class is wrong:

- `OneCycleLR` allows one step too many: there its cosine form rises again and its linear form falls below zero. Here the
  curve holds its last value.
- `OneCycleLR` divides by zero if `pct_start * total_steps` is 1. Here the rise has no length then and step 0 has the peak,
  which is also the limit from below.
- `CosineAnnealingWarmRestarts` started at a given epoch takes a logarithm and can be off by a cycle; here cycles are
  counted in integers.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from dlkit.schedules.curves import Curve, known_length, power
from dlkit.schedules.option_checks import check_choice, check_flag, check_number, check_whole


@dataclass(frozen=True)
class CosineRestarts(Curve):
    """torch's CosineAnnealingWarmRestarts: cosines of length `T_0`, `T_0 * T_mult`, ...; none reaches `eta_min`."""

    T_0: int
    T_mult: int = 1
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        check_whole("T_0", self.T_0, least=1)
        check_whole("T_mult", self.T_mult, least=1)
        check_number("eta_min", self.eta_min, least=0)

    def lr(self, step: int, base_lr: float) -> float:
        """The cosine of Loshchilov and Hutter, 2017, equation 5, within the current cycle."""
        done, length = self.cycle(step)
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * done / length)) / 2

    def cycle(self, step: int) -> tuple[int, int]:
        """The steps done in the current cycle, and the length of the cycle."""
        if self.T_mult == 1:
            return step % self.T_0, self.T_0
        length = self.T_0
        while step >= length:
            step -= length
            length *= self.T_mult
        return step, length


@dataclass(frozen=True)
class Phase:
    """A part of one cycle: its start and end in steps, which may be fractions, and the levels there."""

    start: float
    end: float
    start_level: str
    end_level: str


@dataclass(frozen=True)
class OneCycle(Curve):
    """torch's OneCycleLR; the base rate is its `max_lr`.

    From `max_lr / div_factor` up to `max_lr`, then down to `max_lr / div_factor / final_div_factor` at the last step,
    `total_steps - 1`. The momentum moves the other way unless `cycle_momentum` is off. After Smith and Topin, 2018;
    two phases as in fastai, three as in the paper.
    """

    total_steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        if self.total_steps is not None:
            check_whole("total_steps", self.total_steps, least=1)
        _check_share_of_run(self.pct_start)
        check_choice("anneal_strategy", self.anneal_strategy, ("cos", "linear"))
        check_flag("cycle_momentum", self.cycle_momentum)
        check_flag("three_phase", self.three_phase)
        check_number("base_momentum", self.base_momentum, least=0, most=1)
        check_number("max_momentum", self.max_momentum, least=0, most=1)
        check_number("div_factor", self.div_factor, above=0)
        check_number("final_div_factor", self.final_div_factor, above=0)

    def lr(self, step: int, base_lr: float) -> float:
        """The rate; base_lr is the peak."""
        low = base_lr / self.div_factor
        levels = {"low": low, "peak": base_lr, "end": low / self.final_div_factor}
        return self._level(step, levels)

    def momentum(self, step: int) -> float | None:
        """Momentum (Adam: beta1) at a step; None if it is not cycled."""
        if not self.cycle_momentum:
            return None
        levels = {"low": self.max_momentum, "peak": self.base_momentum, "end": self.max_momentum}
        return self._level(step, levels)

    def _level(self, step: int, levels: dict[str, float]) -> float:
        step = min(step, known_length("total_steps", self.total_steps) - 1)
        phase = self._phase(step)
        length = phase.end - phase.start
        share = (step - phase.start) / length if length else 1.0
        start, end = levels[phase.start_level], levels[phase.end_level]
        if self.anneal_strategy == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)

    def _phase(self, step: int) -> Phase:
        for phase in self.phases:
            if step <= phase.end:
                return phase
        return self.phases[-1]

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The two or three phases in order."""
        total_steps = known_length("total_steps", self.total_steps)
        top = float(self.pct_start * total_steps) - 1
        if not self.three_phase:
            return Phase(0.0, top, "low", "peak"), Phase(top, total_steps - 1, "peak", "end")
        foot = float(2 * self.pct_start * total_steps) - 2
        return (
            Phase(0.0, top, "low", "peak"),
            Phase(top, foot, "peak", "low"),
            Phase(foot, total_steps - 1, "low", "end"),
        )


def _check_share_of_run(pct_start: float) -> None:
    try:
        check_number("pct_start", pct_start, least=0, most=1)
    except ValueError as error:
        raise ValueError(f"{error}: it is a share of the steps, 0.3 for 30 %") from None


@dataclass(frozen=True)
class Cyclic(Curve):
    """torch's CyclicLR between `base_lr` (the foot, the same for all groups) and the optimizer's rate (its `max_lr`).

    After Smith, 2017. `triangular2` halves the height at each cycle, `exp_range` multiplies it by `gamma` at each step.
    The momentum moves the other way unless `cycle_momentum` is off.
    """

    base_lr: float
    step_size_up: int = 2000
    step_size_down: int | None = None
    mode: str = "triangular"
    gamma: float = 1.0
    cycle_momentum: bool = True
    base_momentum: float = 0.8
    max_momentum: float = 0.9

    def __post_init__(self) -> None:
        check_number("base_lr", self.base_lr, least=0)
        check_whole("step_size_up", self.step_size_up, least=1)
        if self.step_size_down is not None:
            check_whole("step_size_down", self.step_size_down, least=0)
        check_choice("mode", self.mode, ("triangular", "triangular2", "exp_range"))
        check_number("gamma", self.gamma, above=0)
        check_flag("cycle_momentum", self.cycle_momentum)
        check_number("base_momentum", self.base_momentum, least=0, most=1)
        check_number("max_momentum", self.max_momentum, least=0, most=1)

    def lr(self, step: int, base_lr: float) -> float:
        """The rate; the argument base_lr is the group's peak, not the option of that name."""
        return self.base_lr + (base_lr - self.base_lr) * self._height(step)

    def momentum(self, step: int) -> float | None:
        """Momentum (Adam: beta1) at a step; None if it is not cycled."""
        if not self.cycle_momentum:
            return None
        return self.max_momentum - (self.max_momentum - self.base_momentum) * self._height(step)

    def _height(self, step: int) -> float:
        down = self.step_size_up if self.step_size_down is None else self.step_size_down
        cycle, done = divmod(step, self.step_size_up + down)
        rising = done <= self.step_size_up
        triangle = done / self.step_size_up if rising else 1 - (done - self.step_size_up) / down
        if self.mode == "exp_range":
            return triangle * power(self.gamma, step)
        return triangle * (power(0.5, cycle) if self.mode == "triangular2" else 1.0)
