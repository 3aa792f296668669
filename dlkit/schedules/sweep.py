"""One sweep of a learning-rate range test: the rates to try, when to stop, and the rules that suggest a rate.

Rates are spaced evenly in log(lr), so an index is a position on that axis, and slopes are taken along it.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Literal

from dlkit.errors import UsageError

_FALL_SHARE = 0.1  # of what the loss has fallen; used instead of |best| if that is smaller, as near a loss of 0
MOST_STEPS = 100_000

Ended = Literal["finished", "diverged", "not_finite", "interrupted"]


@dataclass(frozen=True)
class SweepPlan:
    """Which rates to try, how often, and how to judge the losses. Raises UsageError for values that make no sweep.

    `smoothing` is the weight of the past, `threshold` the multiple of the best smoothed loss that counts as divergence.
    """

    lo: float = 1e-6
    hi: float = 1.0
    steps: int = 150
    repeats: int = 3
    smoothing: float = 0.9
    threshold: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.lo < self.hi < math.inf:
            raise UsageError(f"--lo must be above 0 and --hi above it, got --lo {self.lo:g} --hi {self.hi:g}")
        if not 10 <= self.steps <= MOST_STEPS:
            raise UsageError(f"--steps must be 10 to {MOST_STEPS:,}, got {self.steps}")
        if self.repeats < 1:
            raise UsageError(f"--repeats must be at least 1, got {self.repeats}")

    @cached_property
    def lrs(self) -> tuple[float, ...]:
        """lo * (hi/lo)**(k/(steps-1)): the first is `lo`, the last `hi`."""
        ratio, last = self.hi / self.lo, self.steps - 1
        return (*(self.lo * ratio ** (index / last) for index in range(last)), self.hi)

    @property
    def log_spacing(self) -> float:
        """The distance between neighbouring rates in ln(lr)."""
        return math.log(self.hi / self.lo) / (self.steps - 1)


class Smoother:
    """An exponential moving average whose weights add up to one from the first value on (bias-corrected as in Adam)."""

    def __init__(self, smoothing: float) -> None:
        self._smoothing, self._sum, self._weight = smoothing, 0.0, 0.0

    def add(self, value: float) -> float:
        """Take a value and return the average."""
        share = 1 - self._smoothing
        self._sum = self._smoothing * self._sum + share * value
        self._weight = self._smoothing * self._weight + share
        return self._sum / self._weight


class DivergenceTest:
    """Decides whether smoothed losses have diverged from the best one.

    The limit is best + (threshold - 1) * |best|, so it is above the best for negative losses too. If |best| is less than a
    tenth of what the loss has fallen, that tenth is used instead, because otherwise noise around 0 would end a sweep.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold, self._first, self._best = threshold, -math.inf, math.inf

    @property
    def limit(self) -> float:
        """The loss above which a sweep ends."""
        scale = max(abs(self._best), _FALL_SHARE * (self._first - self._best))
        return self._best + (self._threshold - 1) * scale

    def is_over(self, smoothed: float) -> bool:
        """Take a smoothed loss and return whether it is above the limit."""
        if self._best == math.inf:
            self._first = smoothed
        self._best = min(self._best, smoothed)
        return smoothed > self.limit


@dataclass(frozen=True)
class Sweep:
    """One pass over the rates. `losses[k]` was seen with the weights before the update at `plan.lrs[k]`; all are finite.

    `not_finite` means that the next loss was NaN or infinite.
    """

    plan: SweepPlan
    losses: tuple[float, ...]
    ended: Ended

    @property
    def lrs(self) -> tuple[float, ...]:
        """The rates that were tried and have a loss."""
        return self.plan.lrs[: len(self.losses)]

    @cached_property
    def smoothed(self) -> tuple[float, ...]:
        """The losses, smoothed."""
        smoother = Smoother(self.plan.smoothing)
        return tuple(smoother.add(loss) for loss in self.losses)

    @property
    def ended_at(self) -> float:
        """The rate at which the sweep ended: the last one that has a finite loss."""
        return self.lrs[-1] if self.losses else self.plan.lo

    @property
    def rises_from(self) -> float | None:
        """The rate from which on the loss rose for good, or None if it did not diverge."""
        if self.ended not in ("diverged", "not_finite") or not self.losses:
            return None
        return self.lrs[find_rise(self.losses)]

    @property
    def fall(self) -> float:
        """How far the smoothed loss fell below where it began."""
        return self.smoothed[_num_skipped(self.plan, self.smoothed)] - min(self.smoothed) if self.smoothed else 0.0

    @property
    def noise(self) -> float:
        """The usual difference between neighbouring losses, after smoothing, if only the batch changed."""
        if len(self.losses) < 2:
            return 0.0
        steps = [abs(after - before) for before, after in zip(self.losses, self.losses[1:], strict=False)]
        past = self.plan.smoothing
        return median(steps) * math.sqrt((1 - past) / (1 + past))

    def suggest(self, name: str) -> float | None:
        """The rate that a rule finds on this sweep, or None if the loss never fell."""
        index = RULES[name](self)
        return None if index is None else self.plan.lrs[index] / (10 if name == "minimum/10" else 1)


def find_rise(losses: Sequence[float], window: int = 5) -> int:
    """The index from which on losses rise for good: the last one not above the median of the `window` before it."""
    for index in range(len(losses) - 1, 0, -1):
        if losses[index] <= median(losses[max(index - window, 0) : index]):
            return index
    return 0


def _num_skipped(plan: SweepPlan, smoothed: Sequence[float]) -> int:
    """The number of smoothed losses at the beginning that are means of too few losses."""
    return min(round(1 / (1 - plan.smoothing)), len(smoothed) // 10)


def _lowest(sweep: Sweep) -> int | None:
    """The index of the lowest smoothed loss, if it fell at all."""
    start = _num_skipped(sweep.plan, sweep.smoothed)
    index = min(range(start, len(sweep.smoothed)), key=sweep.smoothed.__getitem__, default=start)
    return index if index > start else None


def _steepest(sweep: Sweep) -> int | None:
    """The index where the smoothed loss falls fastest along ln(lr), up to its minimum."""
    lowest, values = _lowest(sweep), sweep.smoothed
    if lowest is None:
        return None
    slopes = log_slopes(values[: lowest + 1], sweep.plan.log_spacing)
    start = _num_skipped(sweep.plan, values)
    index = min(range(start, lowest + 1), key=slopes.__getitem__)
    return index if slopes[index] < 0 else None


def log_slopes(values: Sequence[float], spacing: float) -> list[float]:
    """d(loss)/d(ln lr) at every index: central differences, one-sided at the ends."""
    last = len(values) - 1
    ends = [(max(index - 1, 0), min(index + 1, last)) for index in range(len(values))]
    return [(values[after] - values[before]) / ((after - before) * spacing or math.inf) for before, after in ends]


def _valley(sweep: Sweep) -> int | None:
    """The middle of the longest descent: half its length before its end.

    It is counted back from the end, because the first losses of the descent may be chance finds on the plateau before it.
    """
    start = _num_skipped(sweep.plan, sweep.smoothed)
    end, length = longest_descent(sweep.smoothed[start:])
    return start + end - length // 2 if length > 2 else None


def longest_descent(values: Sequence[float]) -> tuple[int, int]:
    """The index where the longest strictly falling subsequence ends (the earliest one), and its length."""
    tails: list[float] = []  # for each length the largest value, negated, with which a descent of that length can end
    best = (0, 0)
    for index, value in enumerate(values):
        length = bisect_left(tails, -value)
        tails[length:] = [-value, *tails[length + 1 :]]
        if length + 1 > best[1]:
            best = (index, length + 1)
    return best


# in order of preference, as measured by benchmarks/lr_find_rules.py
RULES: dict[str, Callable[[Sweep], int | None]] = {"minimum/10": _lowest, "steepest": _steepest, "valley": _valley}
