"""Groups of runs that differ in nothing but their seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from dlkit.run_folders import FREE_SETTINGS, StoredRun, differing_settings, is_among

_SAME_RUN = FREE_SETTINGS | {"seed", "runtime"}  # where and how fast it was computed changes no more than last bits


@dataclass(frozen=True)
class RunGroup:
    """Runs of the same settings, by their letter in tables."""

    letter: str
    runs: tuple[StoredRun, ...]

    def values(self, metric: str) -> list[float]:
        """Returns a metric of the test split, or of the best epoch, for each run that has it; a seed that was run twice counts once."""
        found = {run.settings.get("seed", 0): _value(run, metric) for run in reversed(self.runs)}
        return [value for value in reversed(found.values()) if value is not None]

    def mean(self, metric: str) -> float:
        """Returns the mean; NaN without a value."""
        values = self.values(metric)
        return fmean(values) if values else math.nan

    def deviation(self, metric: str) -> float | None:
        """Returns the standard deviation, n - 1 in its denominator; None of fewer than two."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None


def _value(run: StoredRun, metric: str) -> float | None:
    if run.best.get("metric") == metric:
        return float(run.best["value"])
    return run.test.get(metric.removeprefix("test_")) if metric.startswith("test_") else None


def group_runs(runs: Sequence[StoredRun]) -> list[RunGroup]:
    """Returns the groups in the order of their first runs."""
    groups: list[list[StoredRun]] = []
    for run in runs:
        group = next((group for group in groups if _are_alike(group[0], run)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return [RunGroup(letter_of(index), tuple(group)) for index, group in enumerate(groups)]


def _are_alike(one: StoredRun, other: StoredRun) -> bool:
    if not (one.config and other.config):
        return False
    return all(is_among(key, _SAME_RUN) for key in differing_settings([one.settings, other.settings]))


def letter_of(index: int) -> str:
    """Returns `a` to `z`, then `a1` and so on."""
    return chr(ord("a") + index % 26) + (str(index // 26) if index >= 26 else "")
