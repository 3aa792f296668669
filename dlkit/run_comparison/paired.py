"""Two networks on the same samples: the interval of the difference of a metric, and how likely chance makes one as large.

Samples are drawn anew, both networks' answers to a sample together (Efron's bootstrap, doi:10.1214/aos/1176344552); for accuracy the
p-value is McNemar's, doi:10.1007/BF02295996, as mid-p, doi:10.1186/1471-2288-13-91.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlkit.run_folders import KeptPredictions

Array = np.ndarray[Any, np.dtype[Any]]

NUM_DRAWS, FEWEST_DRAWS = 2000, 400
_MOST_DRAWN = 4 * 10**7  # numbers in all, a second or two; of so many samples that draws must be fewer they are as good
_AT_ONCE = 2**22  # numbers drawn at once
_TINY = 1e-30


@dataclass(frozen=True)
class Statistic:
    """A metric as a function of means over samples: `parts` are (N, K), and `combine` makes (R,) of R rows of such means."""

    parts: Callable[[KeptPredictions], Array]
    combine: Callable[[Array], Array]


def _label_counts(kept: KeptPredictions) -> Array:
    """True positives and all that F1 divides by, (N, 2 L)."""
    both = kept.predicted & kept.targets
    return np.concatenate([2.0 * both, kept.predicted + kept.targets.astype(float)], axis=1)


def _f1(top: Array, bottom: Array) -> Array:
    result: Array = top / np.maximum(bottom, _TINY)
    return result


def _macro_f1(means: Array) -> Array:
    top, bottom = np.split(means, 2, axis=1)
    return _mean(_f1(top, bottom))


def _micro_f1(means: Array) -> Array:
    top, bottom = (half.sum(axis=1) for half in np.split(means, 2, axis=1))
    return _f1(top, bottom)


def _squares(kept: KeptPredictions) -> Array:
    result: Array = (kept.predicted.astype(float) - kept.targets) ** 2
    return result


def _spread(kept: KeptPredictions) -> Array:
    targets = kept.targets - kept.targets.mean(axis=0, dtype=float)
    return np.concatenate([_squares(kept), targets, targets**2], axis=1)


def _r2(means: Array) -> Array:
    errors, first, second = np.split(means, 3, axis=1)
    return _mean(1 - errors / np.maximum(second - first**2, _TINY))


def _surprise(kept: KeptPredictions) -> Array:
    if kept.likelihood is None:
        raise ValueError("no likelihoods were kept")
    result: Array = -np.log(np.maximum(kept.likelihood.astype(float), _TINY))[:, None]
    return result


def _among_five(kept: KeptPredictions) -> Array:
    if kept.probabilities is None:
        raise ValueError("no probabilities were kept")
    own = np.take_along_axis(kept.probabilities, kept.targets[:, None], axis=1)
    result: Array = ((kept.probabilities > own).sum(axis=1, keepdims=True) < 5).astype(float)
    return result


def _areas(kept: KeptPredictions) -> Array:
    """Pixels that are right, true and predicted, by class: (N, 3 C)."""
    if kept.right is None:
        raise ValueError("no pixels were kept")
    return np.concatenate([kept.right, kept.targets, kept.predicted], axis=1).astype(float)


def _over_classes(top: Array, bottom: Array) -> Array:
    """The mean over classes that are there or are predicted."""
    is_there = bottom > 0
    result: Array = (top / np.where(is_there, bottom, 1)).sum(axis=1, where=is_there) / is_there.sum(axis=1)
    return result


def _miou(means: Array) -> Array:
    right, true, said = np.split(means, 3, axis=1)
    return _over_classes(right, true + said - right)


def _dice(means: Array) -> Array:
    right, true, said = np.split(means, 3, axis=1)
    return _over_classes(2 * right, true + said)


def _pixel_accuracy(means: Array) -> Array:
    right, true, _ = np.split(means, 3, axis=1)
    result: Array = right.sum(axis=1) / true.sum(axis=1)
    return result


def _mean(means: Array) -> Array:
    result: Array = means.mean(axis=1)
    return result


_RIGHT = Statistic(lambda kept: (kept.predicted == kept.targets)[:, None].astype(float), _mean)
STATISTICS: Mapping[str, Mapping[str, Statistic]] = {
    "classification": {"accuracy": _RIGHT, "loss": Statistic(_surprise, _mean), "top5": Statistic(_among_five, _mean)},
    "multilabel": {
        "micro_f1": Statistic(_label_counts, _micro_f1),
        "macro_f1": Statistic(_label_counts, _macro_f1),
        "subset_accuracy": Statistic(
            lambda kept: (kept.predicted == kept.targets).all(axis=1)[:, None].astype(float), _mean
        ),
    },
    "regression": {
        "mse": Statistic(_squares, _mean),
        "rmse": Statistic(_squares, lambda means: np.sqrt(_mean(means))),
        "mae": Statistic(lambda kept: np.abs(kept.predicted.astype(float) - kept.targets), _mean),
        "r2": Statistic(_spread, _r2),
    },
    "segmentation": {
        "miou": Statistic(_areas, _miou),
        "dice": Statistic(_areas, _dice),
        "pixel_accuracy": Statistic(_areas, _pixel_accuracy),
    },
}


def paired_difference(
    first: KeptPredictions, second: KeptPredictions, statistic: Statistic
) -> tuple[float, float, float]:
    """Returns the 95 % interval of the metric of the second less that of the first, and the p-value of no difference; the samples
    are the same. The same call returns the same numbers.
    """
    parts = np.concatenate([statistic.parts(first), statistic.parts(second)], axis=1)
    generator, size = np.random.default_rng(0), len(parts)
    num_draws = min(NUM_DRAWS, max(FEWEST_DRAWS, _MOST_DRAWN // size))
    at_once = max(1, min(num_draws, _AT_ONCE // size))
    found: list[Array] = []
    for start in range(0, num_draws, at_once):
        rows = min(at_once, num_draws - start)
        counts = generator.poisson(1.0, (rows, size)).astype(float)  # each sample so often, on average as many in all
        one, other = np.split(counts @ parts / np.maximum(counts.sum(axis=1, keepdims=True), 1), 2, axis=1)
        found.append(statistic.combine(other) - statistic.combine(one))
    differences = np.concatenate(found)
    low, high = np.quantile(differences, [0.025, 0.975])
    if statistic is _RIGHT:
        return float(low), float(high), _mcnemar(first, second)
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(low), float(high), min(1.0, 2 * (int(beyond) + 1) / (num_draws + 1))


def _mcnemar(first: KeptPredictions, second: KeptPredictions) -> float:
    right = [kept.predicted == kept.targets for kept in (first, second)]
    return mid_p_value(int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum()))


def mid_p_value(only_first: int, only_second: int) -> float:
    """Returns how likely it is that of the samples which only one of two equal networks gets right, at least as many fall to one of
    them; what is exactly as likely as what happened counts half.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    logs = [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(fewer + 1)]
    chances = [math.exp(log - total * math.log(2)) for log in logs]
    return min(1.0, 2 * math.fsum(chances[:-1]) + chances[-1])
