"""The arithmetic of a learning-rate range test: the rates to try, when to stop, and which rate to take.

Rates are spaced evenly in log(lr), so an index is a place on that axis and slopes are taken along it.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, geometric_mean, median
from typing import Literal

from dlkit.errors import UsageError

SPREAD_LIMIT = 3.0  # suggestions of repeats further apart than this are called unreliable
FALL_SHARE = 0.1  # of what the loss has fallen; stands in for |best| where that is smaller, as near a loss of 0
MOST_STEPS = 100_000

Ended = Literal["finished", "diverged", "not_finite", "interrupted"]


@dataclass(frozen=True)
class SweepPlan:
    """Which rates to try, how often, and how to judge: weight of the past in the smoothing, and how many times the best
    smoothed loss counts as divergence. Raises UsageError for values that make no sweep.
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
        """The distance of two rates in ln(lr)."""
        return math.log(self.hi / self.lo) / (self.steps - 1)


class Smoother:
    """An exponential moving average whose weights add up to one from the first value on (bias-corrected as in Adam)."""

    def __init__(self, smoothing: float) -> None:
        self._smoothing, self._sum, self._weight = smoothing, 0.0, 0.0

    def add(self, value: float) -> float:
        """Take a value in; the average."""
        share = 1 - self._smoothing
        self._sum = self._smoothing * self._sum + share * value
        self._weight = self._smoothing * self._weight + share
        return self._sum / self._weight


class DivergenceTest:
    """Whether smoothed losses have left the best one behind for good.

    The limit is best + (threshold - 1) * |best|, so that it lies above the best for negative losses too; where |best| is less
    than a tenth of what the loss has fallen, that tenth is taken instead, or noise around 0 would end a sweep.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold, self._first, self._best = threshold, -math.inf, math.inf

    @property
    def limit(self) -> float:
        """The loss above which a sweep ends."""
        scale = max(abs(self._best), FALL_SHARE * (self._first - self._best))
        return self._best + (self._threshold - 1) * scale

    def is_over(self, smoothed: float) -> bool:
        """Take a smoothed loss in; whether it is above the limit."""
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
        """The rates that were tried and gave a loss."""
        return self.plan.lrs[: len(self.losses)]

    @cached_property
    def smoothed(self) -> tuple[float, ...]:
        """The losses, smoothed."""
        smoother = Smoother(self.plan.smoothing)
        return tuple(smoother.add(loss) for loss in self.losses)

    @property
    def ended_at(self) -> float:
        """The rate at which the sweep ended; of a loss that was not finite, the one after which it was seen."""
        return self.lrs[-1] if self.losses else self.plan.lo

    @property
    def rises_from(self) -> float | None:
        """The rate from which the loss rose for good, or None when it did not diverge."""
        if self.ended not in ("diverged", "not_finite") or not self.losses:
            return None
        return self.lrs[find_rise(self.losses)]

    @property
    def fall(self) -> float:
        """How far the smoothed loss fell below where it began."""
        return self.smoothed[_num_skipped(self.plan, self.smoothed)] - min(self.smoothed) if self.smoothed else 0.0

    @property
    def noise(self) -> float:
        """The usual difference between one loss and the next, after smoothing, if nothing changed but the batch."""
        if len(self.losses) < 2:
            return 0.0
        steps = [abs(after - before) for before, after in zip(self.losses, self.losses[1:], strict=False)]
        past = self.plan.smoothing
        return median(steps) * math.sqrt((1 - past) / (1 + past))

    def suggest(self, name: str) -> float | None:
        """The rate that a rule finds on this sweep, or None where the loss never fell."""
        index = RULES[name](self)
        return None if index is None else self.plan.lrs[index] / (10 if name == "minimum/10" else 1)


def find_rise(losses: Sequence[float], window: int = 5) -> int:
    """The index from which losses rise for good: the last one that is not above the median of the `window` before it."""
    for index in range(len(losses) - 1, 0, -1):
        if losses[index] <= median(losses[max(index - window, 0) : index]):
            return index
    return 0


def _num_skipped(plan: SweepPlan, smoothed: Sequence[float]) -> int:
    """Smoothed losses at the beginning that are means of too few to be trusted."""
    return min(round(1 / (1 - plan.smoothing)), len(smoothed) // 10)


def _lowest(sweep: Sweep) -> int | None:
    """Where the smoothed loss is lowest, if it fell at all."""
    start = _num_skipped(sweep.plan, sweep.smoothed)
    index = min(range(start, len(sweep.smoothed)), key=sweep.smoothed.__getitem__, default=start)
    return index if index > start else None


def _steepest(sweep: Sweep) -> int | None:
    """Where the smoothed loss falls fastest along ln(lr), up to its minimum."""
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
    """The middle of the longest descent: half its number of losses before its end.

    Counted back from the end, since the first members of a longest descent may be chance finds on the plateau before it.
    """
    start = _num_skipped(sweep.plan, sweep.smoothed)
    end, length = longest_descent(sweep.smoothed[start:])
    return start + end - length // 2 if length > 2 else None


def longest_descent(values: Sequence[float]) -> tuple[int, int]:
    """The index where the longest strictly falling subsequence ends (the earliest such), and its length."""
    tails: list[float] = []  # for each length the largest value, negated, with which a descent of that length can end
    best = (0, 0)
    for index, value in enumerate(values):
        length = bisect_left(tails, -value)
        tails[length:] = [-value, *tails[length + 1 :]]
        if length + 1 > best[1]:
            best = (index, length + 1)
    return best


# in the order in which they are preferred
RULES: dict[str, Callable[[Sweep], int | None]] = {"valley": _valley, "minimum/10": _lowest, "steepest": _steepest}


@dataclass(frozen=True)
class Suggestion:
    """What one rule says: the median of the sweeps' rates in log(lr), and the rate of each sweep that has one."""

    name: str
    lr: float
    repeats: tuple[float, ...]
    is_reliable: bool

    @property
    def spread(self) -> float:
        """How many times the least of the repeats the greatest is."""
        return max(self.repeats) / min(self.repeats)


@dataclass(frozen=True)
class RangeTest:
    """What a range test found. `sweeps` has those that were begun."""

    plan: SweepPlan
    sweeps: tuple[Sweep, ...]

    @property
    def is_interrupted(self) -> bool:
        """Whether it was stopped before its end."""
        return any(sweep.ended == "interrupted" for sweep in self.sweeps) or len(self.sweeps) < self.plan.repeats

    @cached_property
    def judged(self) -> tuple[Sweep, ...]:
        """The sweeps that count: the whole ones, or the one that was begun if there is none."""
        whole = tuple(sweep for sweep in self.sweeps if sweep.ended != "interrupted")
        return whole or tuple(sweep for sweep in self.sweeps if sweep.losses)

    @cached_property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """One for each rule that found a rate, in the order in which they are preferred."""
        found = [(name, [sweep.suggest(name) for sweep in self.judged]) for name in RULES]
        return tuple(self._pool(name, rates) for name, rates in found if any(rate is not None for rate in rates))

    def _pool(self, name: str, rates: Sequence[float | None]) -> Suggestion:
        repeats = tuple(rate for rate in rates if rate is not None)
        is_together = max(repeats) <= SPREAD_LIMIT * min(repeats) and len(repeats) == len(rates)
        return Suggestion(name, _log_median(repeats), repeats, is_together and self.is_falling)

    @property
    def is_falling(self) -> bool:
        """Whether the loss fell by more than its noise in every sweep."""
        return all(sweep.fall > 2 * sweep.noise for sweep in self.judged)

    @property
    def recommended(self) -> Suggestion | None:
        """The first reliable suggestion in order of preference, or the first if none is."""
        reliable = (suggestion for suggestion in self.suggestions if suggestion.is_reliable)
        return next(reliable, self.suggestions[0] if self.suggestions else None)

    @property
    def rises_from(self) -> float | None:
        """The rate from which the loss rises for good: the median of the sweeps that diverged, None without one."""
        rates = [rate for sweep in self.judged if (rate := sweep.rises_from) is not None]
        return _log_median(rates) if rates else None

    @cached_property
    def band(self) -> tuple[tuple[float, float, float], ...]:
        """Least, mean and greatest smoothed loss at every rate; a sweep that ended counts with its last value."""
        curves = [sweep.smoothed for sweep in self.judged if sweep.smoothed]
        length = max(map(len, curves), default=0)
        rows = [[curve[min(index, len(curve) - 1)] for curve in curves] for index in range(length)]
        return tuple((min(row), fmean(row), max(row)) for row in rows)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What one should know before believing the suggestions."""
        return tuple(_notes(self))


def _log_median(rates: Sequence[float]) -> float:
    ordered = sorted(rates)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return geometric_mean(middle) if len(middle) == 2 else middle[0]


def _notes(test: RangeTest) -> list[str]:
    notes = []
    endings = [sweep.ended for sweep in test.judged]
    if not test.suggestions:
        notes.append("the loss never fell: no rate to suggest; is the model trainable, and --lo not too high?")
    elif not test.is_falling:
        notes.append(
            "unreliable: the loss fell no more than it varies from batch to batch; try a larger batch or --steps"
        )
    for suggestion in test.suggestions:
        if suggestion.spread > SPREAD_LIMIT:
            notes.append(
                f"{suggestion.name} is unreliable: its repeats differ {suggestion.spread:.1f}-fold; more --steps help"
            )
        elif len(suggestion.repeats) < len(test.judged):
            notes.append(f"{suggestion.name} is unreliable: not every repeat has one")
    if endings and set(endings) == {"finished"}:
        notes.append(f"the loss did not diverge up to {test.plan.hi:g}: higher rates may work, try a larger --hi")
    if endings and any(len(sweep.losses) <= len(test.plan.lrs) // 5 for sweep in test.judged if sweep.rises_from):
        notes.append("a sweep diverged within its first fifth: begin lower with --lo")
    if len(test.judged) == 1 and test.suggestions:
        notes.append("a single sweep cannot show how much the suggestions vary")
    return notes
