"""A curve placed in a run: its unit, the warm-up in front of it, and the steps it has.

With a warm-up of W steps the rate at step k < W is `warmup_from + (1 - warmup_from) * k / W` times the curve; from step
W on it is the curve itself. A curve begins when the warm-up ends, so that a cosine has `total_steps - W` steps and ends
with the run: the values of torch's `SequentialLR([LinearLR(warmup_from, total_iters=W), curve], [W])`. Curves that name
moments of the run (step, multistep, exponential) count from its start instead: milestone 30 is epoch 30, with or
without a warm-up. Counted in epochs, the rate of a curve changes only where an epoch begins; whole epochs of warm-up
are skipped.

Where torch's `SequentialLR` errs, this does not: nested sequences are not shifted by a step, a OneCycle at the end does
not move the warm-up of others, a plateau may be warmed up, a warm-up may begin at 0, and a curve that begins below its
base rate (one-cycle, linear, cyclic) is met where it begins instead of at the base rate.
"""

from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from dlkit.schedules.curves import Curve
from dlkit.schedules.plateau import Plateau
from dlkit.schedules.tabulated import Tabulated


@runtime_checkable
class CyclesMomentum(Protocol):
    """A curve that moves the momentum too."""

    def momentum(self, step: int) -> float | None:
        """Momentum at a step, or None when it is left alone."""


@dataclass(frozen=True)
class LrSchedule:
    """The learning rate of a whole run as a pure function of the optimizer step.

    `unit` is what the curve counts, `step` or `epoch`.
    """

    name: str
    curve: Curve | Plateau
    unit: str
    total_steps: int
    steps_per_epoch: int
    warmup_steps: int = 0
    warmup_from: float = 0.01

    @property
    def is_plateau(self) -> bool:
        """Whether the rate also depends on a metric; then only `LearningRate` knows it."""
        return isinstance(self.curve, Plateau)

    def lr(self, step: int, base_lr: float) -> float:
        """The rate that optimizer step number `step` (from 0) uses, for a group with this base rate.

        For a plateau pass the rate that its state holds; then only the warm-up is added.
        """
        curve = self.curve
        lr = base_lr if isinstance(curve, Plateau) else curve.lr(self.position(step), base_lr)
        return lr if step >= self.warmup_steps else lr * self.warmup_factor(step)

    def momentum(self, step: int) -> float | None:
        """Momentum (Adam: beta1) at an optimizer step; None when the schedule leaves it alone.

        As in torch, a cycled momentum replaces what the optimizer was given, even a momentum of 0.
        """
        return self.curve.momentum(self.position(step)) if isinstance(self.curve, CyclesMomentum) else None

    def warmup_factor(self, step: int) -> float:
        """What the warm-up multiplies the curve by: from `warmup_from` at step 0 to 1 at `warmup_steps`."""
        if step >= self.warmup_steps:
            return 1.0
        return self.warmup_from + (1.0 - self.warmup_from) * step / self.warmup_steps

    def position(self, step: int) -> int:
        """Where the curve stands at an optimizer step, in its own unit; 0 until it begins."""
        return max(step // self.steps_per_unit - self.start, 0)

    @property
    def steps_per_unit(self) -> int:
        """Optimizer steps to one unit of the curve."""
        return self.steps_per_epoch if self.unit == "epoch" else 1

    @property
    def start(self) -> int:
        """Where in the run, in its own unit, the curve begins: at 0 if it is dated, else when the warm-up ends."""
        is_dated = isinstance(self.curve, Plateau) or self.curve.is_dated
        return 0 if is_dated else self.warmup_steps // self.steps_per_unit

    @property
    def length(self) -> int:
        """How much of the run the curve has, in its own unit, at least 1."""
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
