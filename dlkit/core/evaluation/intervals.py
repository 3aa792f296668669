"""How far a metric may be off by the chance of which samples a split has: intervals that hold the true value in 95 of 100 splits.

Sources: Wilson, Probable inference, the law of succession, and statistical inference, 1927, for shares of samples; Efron, Bootstrap
methods: another look at the jackknife, 1979, for all else, between the percentiles.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.metrics import score_predictions
from dlkit.core.scoring import Scoring, map_metrics
from dlkit.tasks import metric_of

Interval = tuple[float, float]

Z = 1.959963984540054  # of the normal distribution, 95 % lie within so many standard deviations
NUM_RESAMPLES = 200
MOST_DRAWN = 2**26  # numbers of all resamples together, a second of work


def metric_intervals(metrics: Mapping[str, float], predictions: Predictions, scoring: Scoring) -> dict[str, Interval]:
    """Returns lower and upper end of metrics by name, of those for which there is one. Targets are counted; see `Predictions.without`.

    Of very many outputs there are those of shares alone, as drawing samples anew takes too long.
    """
    count = len(predictions.targets)
    shares = {
        name: share_interval(value, count) for name, value in metrics.items() if metric_of(name).is_share and count
    }
    drawn = {} if NUM_RESAMPLES * predictions.outputs.numel() > MOST_DRAWN else _bootstrap(predictions, scoring)
    return {name: shares.get(name) or drawn[name] for name in metrics if name in shares or name in drawn}


def map_intervals(metrics: Mapping[str, float], areas: Tensor) -> dict[str, Interval]:
    """Returns the same of what areas of pictures (N, 3, C) tell: as pixels of a picture stand together, pictures are drawn anew."""
    if len(areas) < 2 or NUM_RESAMPLES * areas.numel() > MOST_DRAWN:
        return {}
    rows = (areas[drawn].sum(0) for drawn in _draws(len(areas)))
    found = _percentiles([{name: value.item() for name, value in map_metrics(row).items()} for row in rows])
    return {name: found[name] for name in metrics if name in found}


def share_interval(share: float, count: int) -> Interval:
    """Returns Wilson's interval of a share of so many samples, which stays within 0..1 and is none too narrow at its ends."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _bootstrap(predictions: Predictions, scoring: Scoring) -> dict[str, Interval]:
    """Returns the percentiles of metrics over samples that are drawn anew, the same ones each time."""
    if len(predictions.targets) < 2:
        return {}
    rows = []
    for drawn in _draws(len(predictions.targets)):
        sample = replace(predictions, outputs=predictions.outputs[drawn], targets=predictions.targets[drawn])
        rows.append(score_predictions(sample, scoring))
    return _percentiles(rows)


def _draws(count: int) -> Iterator[Tensor]:
    """Yields so many samples drawn with replacement, (N,), again and again."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(count, (count,), generator=generator) for _ in range(NUM_RESAMPLES))


def _percentiles(rows: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    values = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    found = {name: found.quantile(ends).tolist() for name, found in values.items() if found.isfinite().all()}
    return {name: (low, high) for name, (low, high) in found.items()}
