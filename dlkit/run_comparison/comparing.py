"""Runs side by side: their metrics, and of each difference whether it is more than chance, as far as that can be told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dlkit.errors import FileRefused, first_line
from dlkit.run_comparison.grouping import RunGroup, group_runs
from dlkit.run_comparison.paired import STATISTICS, paired_difference
from dlkit.run_comparison.seeds import welch_difference
from dlkit.run_folders import PREDICTIONS_FILE, KeptPredictions, StoredRun, read_predictions

LEVEL = 0.05
_TOLERANCE = 1e-4  # by which a metric computed from what was kept may miss the one that the run told


@dataclass(frozen=True)
class MetricDifference:
    """What group `letter` has more of a metric than the first. The interval is of 95 %, `p` is adjusted for the number of groups that
    are compared with the first (Holm). Without them `why` says what is missing.
    """

    metric: str
    letter: str
    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    why: str = ""

    @property
    def verdict(self) -> str:
        """In words, whether it is more than chance."""
        if self.p is None:
            return "cannot tell"
        return "more than chance" if self.p < LEVEL else "may be chance" if self.difference else "the same"


@dataclass(frozen=True)
class RunComparison:
    """The groups, the metrics that they have, and the differences from the first group. `over_seeds` says what they were judged by:
    seeds, or samples.
    """

    groups: tuple[RunGroup, ...]
    metrics: tuple[str, ...]
    differences: tuple[MetricDifference, ...]
    over_seeds: bool


def compare_runs(runs: Sequence[StoredRun]) -> RunComparison:
    """Returns the comparison of runs with the first; runs that differ only in their seed are one group. Seeds decide where a group
    has several, else the samples of the test split where predictions of both were kept.
    """
    groups = group_runs(runs)
    over_seeds = any(len(group.runs) > 1 for group in groups)
    metrics = list(dict.fromkeys(name for run in runs for name in _metrics_of(run)))
    judge = _judge_seeds if over_seeds else _Samples().judge
    differences = []
    for metric in metrics:
        found = [judge(metric, groups[0], group) for group in groups[1:]]
        differences += _adjusted([each for each in found if not math.isnan(each.difference)])
    return RunComparison(tuple(groups), tuple(metrics), tuple(differences), over_seeds)


def _metrics_of(run: StoredRun) -> list[str]:
    return [*(f"test_{name}" for name in run.test), *([str(run.best["metric"])] if run.best else [])]


def _adjusted(found: Sequence[MetricDifference]) -> list[MetricDifference]:
    """The differences with p-values after Holm (1979): the smallest times their number, the next times one less, never falling."""
    judged = sorted((each for each in found if each.p is not None), key=lambda each: each.p or 0.0)
    least, adjusted = 0.0, {}
    for rank, each in enumerate(judged):
        least = max(least, min(1.0, (len(judged) - rank) * (each.p or 0.0)))
        adjusted[each.letter] = least
    return [replace(each, p=adjusted.get(each.letter)) for each in found]


def _judge_seeds(metric: str, first: RunGroup, other: RunGroup) -> MetricDifference:
    difference = MetricDifference(metric, other.letter, other.mean(metric) - first.mean(metric))
    values = first.values(metric), other.values(metric)
    if min(map(len, values)) < 2:
        return replace(difference, why="one seed only; how much seeds differ is not known")
    found = welch_difference(*values)
    if found is None:
        return replace(difference, why="all seeds are equal")
    low, high, p = found
    return replace(difference, low=low, high=high, p=p)


class _Samples:
    """Judges by samples, and reads the predictions of each run once."""

    def __init__(self) -> None:
        self._kept: dict[str, KeptPredictions | str] = {}

    def judge(self, metric: str, first: RunGroup, other: RunGroup) -> MetricDifference:
        """The difference of two groups of one run each."""
        difference = MetricDifference(metric, other.letter, other.mean(metric) - first.mean(metric))
        both = [self._read(group) for group in (first, other)]
        missing = next((each for each in both if isinstance(each, str)), None)
        if missing is not None:
            return replace(difference, why=missing)
        kept = [each for each in both if isinstance(each, KeptPredictions)]
        name = metric.removeprefix(f"{kept[0].facts.split}_")
        statistic = STATISTICS.get(kept[0].facts.task, {}).get(name)
        if not _are_same_samples(*kept):
            return replace(difference, why="judged by other samples")
        if statistic is None or name == metric:
            return replace(difference, why="nothing is kept of each sample for it")
        for group, each in zip((first, other), kept, strict=True):
            try:
                value = float(statistic.combine(statistic.parts(each).mean(axis=0, keepdims=True))[0])
            except ValueError as error:
                return replace(difference, why=str(error))
            if not math.isclose(value, group.mean(metric), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
                return replace(difference, why="what is kept of each sample does not add up to it")
        low, high, p = paired_difference(kept[0], kept[1], statistic)
        return replace(difference, low=low, high=high, p=p)

    def _read(self, group: RunGroup) -> KeptPredictions | str:
        """The predictions of a run, or why there are none."""
        if group.letter not in self._kept:
            path = group.runs[0].path / PREDICTIONS_FILE
            try:
                self._kept[group.letter] = (
                    read_predictions(path) if path.exists() else f"{group.letter} keeps no predictions"
                )
            except FileRefused as refused:
                self._kept[group.letter] = first_line(refused)
        return self._kept[group.letter]


def _are_same_samples(one: KeptPredictions, other: KeptPredictions) -> bool:
    facts = [(kept.facts.task, kept.facts.split, kept.facts.names, dict(kept.facts.samples)) for kept in (one, other)]
    return (
        facts[0] == facts[1]
        and np.array_equal(one.positions, other.positions)
        and np.array_equal(one.targets, other.targets)
    )
