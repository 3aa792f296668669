"""What the sweeps of a learning-rate range test say together: which rate to take, and whether it is reliable."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, geometric_mean

from dlkit.schedules.sweep import RULES, Sweep, SweepPlan

_SPREAD_LIMIT = 3.0  # a suggestion is unreliable if its repeats are further apart than this factor


@dataclass(frozen=True)
class Suggestion:
    """The suggestion of one rule: the median rate of the sweeps in log(lr), and the rate of each sweep that has one."""

    name: str
    lr: float
    repeats: tuple[float, ...]
    is_reliable: bool

    @property
    def spread(self) -> float:
        """The greatest of the repeats divided by the least."""
        return max(self.repeats) / min(self.repeats)


@dataclass(frozen=True)
class RangeTest:
    """The result of a range test. `sweeps` has all that were begun."""

    plan: SweepPlan
    sweeps: tuple[Sweep, ...]

    @property
    def is_interrupted(self) -> bool:
        """Whether the test was stopped before its end."""
        return any(sweep.ended == "interrupted" for sweep in self.sweeps) or len(self.sweeps) < self.plan.repeats

    @cached_property
    def judged(self) -> tuple[Sweep, ...]:
        """The sweeps that count: the whole ones, or if there are none the one that was begun."""
        whole = tuple(sweep for sweep in self.sweeps if sweep.ended != "interrupted")
        return whole or tuple(sweep for sweep in self.sweeps if sweep.losses)

    @cached_property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """A suggestion for each rule that found a rate, in order of preference."""
        found = [(name, [sweep.suggest(name) for sweep in self.judged]) for name in RULES]
        return tuple(self._pool(name, rates) for name, rates in found if any(rate is not None for rate in rates))

    def _pool(self, name: str, rates: Sequence[float | None]) -> Suggestion:
        repeats = tuple(rate for rate in rates if rate is not None)
        is_together = max(repeats) <= _SPREAD_LIMIT * min(repeats) and len(repeats) == len(rates)
        is_whole = any(sweep.ended != "interrupted" for sweep in self.judged)  # else the end is where it was stopped
        return Suggestion(name, _log_median(repeats), repeats, is_together and self.is_falling and is_whole)

    @property
    def is_falling(self) -> bool:
        """Whether the loss fell by more than its noise in every sweep."""
        return all(sweep.fall > 2 * sweep.noise for sweep in self.judged)

    @property
    def recommended(self) -> Suggestion | None:
        """The first reliable suggestion in order of preference, or the first if none is reliable."""
        reliable = (suggestion for suggestion in self.suggestions if suggestion.is_reliable)
        return next(reliable, self.suggestions[0] if self.suggestions else None)

    @property
    def rises_from(self) -> float | None:
        """The rate from which on the loss rises for good: the median of the sweeps that diverged, or None."""
        rates = [rate for sweep in self.judged if (rate := sweep.rises_from) is not None]
        return _log_median(rates) if rates else None

    @cached_property
    def band(self) -> tuple[tuple[float, float, float], ...]:
        """Least, mean and greatest smoothed loss at every rate; a sweep that has ended counts with its last value."""
        curves = [sweep.smoothed for sweep in self.judged if sweep.smoothed]
        length = max(map(len, curves), default=0)
        rows = [[curve[min(index, len(curve) - 1)] for curve in curves] for index in range(length)]
        return tuple((min(row), fmean(row), max(row)) for row in rows)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What one should know before using the suggestions."""
        return tuple(_notes(self))


def _log_median(rates: Sequence[float]) -> float:
    ordered = sorted(rates)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return geometric_mean(middle) if len(middle) == 2 else middle[0]


def _notes(test: RangeTest) -> list[str]:
    if not test.judged:
        return []
    notes = []
    endings = [sweep.ended for sweep in test.judged]
    if test.is_interrupted:
        whole = sum(ended != "interrupted" for ended in endings)
        words = f"judged by {whole} whole {'sweep' if whole == 1 else 'sweeps'}"
        notes.append(f"stopped early: {words if whole else 'no sweep is whole, so nothing here is reliable'}")
    if not test.suggestions:
        notes.append(
            "the loss never fell, so no rate is suggested: try a lower --lo, and see that the model can learn (train --overfit 1)"
        )
    elif not test.is_falling:
        notes.append(
            "unreliable: the loss fell no more than it varies from batch to batch; try a larger batch or --steps"
        )
    for suggestion in test.suggestions:
        if suggestion.spread > _SPREAD_LIMIT:
            notes.append(
                f"{suggestion.name} is unreliable: its repeats differ {suggestion.spread:.1f}-fold; more --steps help"
            )
        elif len(suggestion.repeats) < len(test.judged):
            notes.append(f"{suggestion.name} is unreliable: not every repeat has one")
    if set(endings) == {"finished"}:
        notes.append(f"the loss did not diverge up to {test.plan.hi:g}: higher rates may work, try a larger --hi")
    if any(len(sweep.losses) <= len(test.plan.lrs) // 5 for sweep in test.judged if sweep.rises_from):
        notes.append("a sweep diverged within its first fifth: begin lower with --lo")
    if len(test.judged) == 1 and test.suggestions:
        notes.append("a single sweep cannot show how much the suggestions vary")
    return notes
