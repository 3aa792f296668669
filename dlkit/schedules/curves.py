"""Curves without cycles: closed forms of torch's schedulers, and a few more.

Option names and defaults are torch's, with one exception: a length (`T_max`, `total_iters`, `total_steps`) defaults to
None, which `build_schedule` replaces by what the run has left. Values equal those of torch's classes at every step, but do
not drift, because none is computed from the one before. Differences, all where torch's class is wrong or surprising:

- `ConstantLR` and `LinearLR` with `total_iters=0` stay at the first factor forever; here that is refused.
- `LinearLR` cannot start at 0, by which its step-by-step form would divide; here it can.
- `ConstantLR(factor=0)` divides by zero when it ends; here the rate returns to its base.
- `PolynomialLR`'s docstring is off by one; its code, like ours, starts at the base rate.
- `CosineAnnealingLR` rises again after `T_max`, and so does ours; with the automatic `T_max` a run ends before that.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dlkit.schedules.option_checks import check_choice, check_number, check_whole


@dataclass(frozen=True)
class Curve(ABC):
    """A learning rate as a pure function of the step, counted in the curve's own unit (steps or epochs)."""

    # whether its options are moments of the run (milestones), so that it counts from the start of the run even with a
    # warm-up, and by default in epochs; other curves begin when the warm-up ends
    is_dated: ClassVar[bool] = False

    @abstractmethod
    def lr(self, step: int, base_lr: float) -> float:
        """The rate at a step, from 0, for a parameter group with this base rate."""


def known_length(option: str, length: int | None) -> int:
    """The length, which must be known by now. Raises ValueError if it is still automatic."""
    if length is None:
        raise ValueError(f"{option} is still automatic: give it, or make the curve with build_schedule")
    return length


def power(base: float, exponent: float) -> float:
    """`base ** exponent`, or infinity instead of an OverflowError."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Constant(Curve):
    """The base rate throughout."""

    def lr(self, step: int, base_lr: float) -> float:
        """The base rate."""
        return base_lr


@dataclass(frozen=True)
class ConstantFactor(Curve):
    """torch's ConstantLR: `factor` times the base rate during the first `total_iters`, then the base rate."""

    factor: float = 1.0 / 3
    total_iters: int = 5

    def __post_init__(self) -> None:
        check_number("factor", self.factor, least=0, most=1)
        check_whole("total_iters", self.total_iters, least=1)

    def lr(self, step: int, base_lr: float) -> float:
        """`factor * base` or `base`."""
        return base_lr * self.factor if step < self.total_iters else base_lr


@dataclass(frozen=True)
class Step(Curve):
    """torch's StepLR: multiply by `gamma` every `step_size`."""

    is_dated: ClassVar[bool] = True

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_whole("step_size", self.step_size, least=1)
        check_number("gamma", self.gamma, above=0)

    def lr(self, step: int, base_lr: float) -> float:
        """`base * gamma ** (step // step_size)`."""
        return base_lr * power(self.gamma, step // self.step_size)


@dataclass(frozen=True)
class MultiStep(Curve):
    """torch's MultiStepLR: multiply by `gamma` at each milestone, twice if it is given twice."""

    is_dated: ClassVar[bool] = True

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.milestones, str) or not isinstance(self.milestones, Sequence):
            raise ValueError(f"milestones must be a list of integers such as [30, 60], got {self.milestones!r}")
        for milestone in self.milestones:
            check_whole("each of milestones", milestone, least=0)
        check_number("gamma", self.gamma, above=0)
        object.__setattr__(self, "milestones", tuple(sorted(self.milestones)))

    def lr(self, step: int, base_lr: float) -> float:
        """`base * gamma ** n`, n the number of milestones up to and including the step."""
        return base_lr * power(self.gamma, bisect_right(self.milestones, step))


@dataclass(frozen=True)
class Exponential(Curve):
    """torch's ExponentialLR: multiply by `gamma` each time."""

    is_dated: ClassVar[bool] = True

    gamma: float

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, above=0)

    def lr(self, step: int, base_lr: float) -> float:
        """`base * gamma ** step`."""
        return base_lr * power(self.gamma, step)


@dataclass(frozen=True)
class Cosine(Curve):
    """torch's CosineAnnealingLR: half a cosine from the base rate to `eta_min` at step `T_max`.

    The last step of a run of `T_max` steps is `T_max - 1`, so it uses a little more than `eta_min`.
    """

    T_max: int | None = None
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        if self.T_max is not None:
            check_whole("T_max", self.T_max, least=1)
        check_number("eta_min", self.eta_min, least=0)

    def lr(self, step: int, base_lr: float) -> float:
        """`eta_min + (base - eta_min) (1 + cos(pi step / T_max)) / 2`; Loshchilov and Hutter, 2017, equation 5."""
        share = step / known_length("T_max", self.T_max)
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Linear(Curve):
    """torch's LinearLR: a straight line from `start_factor` to `end_factor` times the base rate, then level."""

    start_factor: float = 1.0 / 3
    end_factor: float = 1.0
    total_iters: int | None = None

    def __post_init__(self) -> None:
        check_number("start_factor", self.start_factor, least=0, most=1)
        check_number("end_factor", self.end_factor, least=0, most=1)
        if self.total_iters is not None:
            check_whole("total_iters", self.total_iters, least=1)

    def lr(self, step: int, base_lr: float) -> float:
        """`base * (start + (end - start) * min(step, total_iters) / total_iters)`."""
        length = known_length("total_iters", self.total_iters)
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * min(step, length) / length)


@dataclass(frozen=True)
class Polynomial(Curve):
    """torch's PolynomialLR: `(1 - step / total_iters) ** power` times the base rate, 0 from `total_iters` on."""

    total_iters: int | None = None
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.total_iters is not None:
            check_whole("total_iters", self.total_iters, least=1)
        check_number("power", self.power, least=0)

    def lr(self, step: int, base_lr: float) -> float:
        """`base * (1 - min(step, total_iters) / total_iters) ** power`."""
        length = known_length("total_iters", self.total_iters)
        return base_lr * power(1.0 - min(step, length) / length, self.power)


@dataclass(frozen=True)
class WarmupStableDecay(Curve):
    """Hold the base rate, then fall to `eta_min` over the last `decay_share` of `total_steps`.

    The warm-up is the schedule's own `warmup`, as for every curve. After Hu et al., 2024 (MiniCPM); `sqrt` is the
    `1 - sqrt` shape of Haegele et al., 2024.
    """

    total_steps: int | None = None
    decay_share: float = 0.2
    decay: str = "linear"
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        if self.total_steps is not None:
            check_whole("total_steps", self.total_steps, least=1)
        check_number("decay_share", self.decay_share, least=0, most=1)
        check_choice("decay", self.decay, ("linear", "cosine", "sqrt"))
        check_number("eta_min", self.eta_min, least=0)

    def lr(self, step: int, base_lr: float) -> float:
        """The base rate until `total_steps * (1 - decay_share)`, then the decay, which would reach `eta_min` at `total_steps`."""
        length = known_length("total_steps", self.total_steps)
        falling = length * self.decay_share
        done = step - (length - falling)
        if done <= 0:
            return base_lr
        share = min(done / falling, 1.0) if falling else 1.0
        left = {"linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2, "sqrt": 1 - math.sqrt(share)}
        return self.eta_min + (base_lr - self.eta_min) * left[self.decay]


@dataclass(frozen=True)
class InverseSqrt(Curve):
    """Fall with the inverse square root of the step: half of the base rate after three times `timescale`.

    `timescale` defaults to the length of the warm-up, or 10,000 without one. Warm-up and curve together are the schedule of
    Vaswani et al., 2017, with a base rate of its own.
    """

    timescale: int | None = None

    def __post_init__(self) -> None:
        if self.timescale is not None:
            check_whole("timescale", self.timescale, least=1)

    def lr(self, step: int, base_lr: float) -> float:
        """`base * sqrt(timescale / (step + timescale))`."""
        timescale = known_length("timescale", self.timescale)
        return base_lr * math.sqrt(timescale / (step + timescale))


@dataclass(frozen=True)
class Tabulated(Curve):
    """The rates of another scheduler by base rate and step, and its momentum by step if it changes; the last value is held.

    So a scheduler from elsewhere becomes a pure function of the step. `options` are its own.
    """

    rates: Mapping[float, Sequence[float]] = field(repr=False)
    momenta: Sequence[float] | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    def lr(self, step: int, base_lr: float) -> float:
        """The rate from the table. Raises KeyError for another base rate."""
        rates = self.rates[base_lr]
        return rates[min(step, len(rates) - 1)]

    def momentum(self, step: int) -> float | None:
        """Momentum (Adam: beta1) at a step; None if the scheduler does not change it."""
        return None if self.momenta is None else self.momenta[min(step, len(self.momenta) - 1)]
