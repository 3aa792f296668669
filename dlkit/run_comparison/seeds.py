"""Two groups of seeds: the difference of their means, after Welch (1947), doi:10.1093/biomet/34.1-2.28."""

import math
from collections.abc import Sequence
from statistics import fmean, variance


def welch_difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float] | None:
    """Returns the 95 % interval of mean(second) - mean(first), and the two-sided p-value of no difference. None where that cannot
    be said: with fewer than two values in a group, or where neither varies.
    """
    if min(len(first), len(second)) < 2:
        return None
    shares = [variance(values) / len(values) for values in (first, second)]
    if sum(shares) == 0:
        return None
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (first, second), strict=True)
    )
    difference, error = fmean(second) - fmean(first), math.sqrt(sum(shares))
    reach = _critical_t(freedom) * error
    return difference - reach, difference + reach, student_p_value(difference / error, freedom)


def student_p_value(t: float, freedom: float) -> float:
    """Returns the two-sided p-value of Student's t, which is the incomplete beta function I(x; freedom/2, 1/2) at
    x = freedom / (freedom + t^2).
    """
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _critical_t(freedom: float) -> float:
    """The t that 5 % lie beyond, by bisection."""
    low, high = 0.0, 1e8
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p_value(middle, freedom) > 0.05 else (low, middle)
    return high


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized one, by its continued fraction where that converges fast (Abramowitz and Stegun 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    value = 1.0
    for m in range(300, 0, -1):
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        value = 1 + odd / (1 + even / value)
    return front / value
