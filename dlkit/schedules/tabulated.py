"""A curve that was written down beforehand: how a scheduler of another make becomes a pure function of the step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlkit.schedules.curves import Curve


@dataclass(frozen=True)
class Tabulated(Curve):
    """Rates by base rate and step, and the momentum by step if it moves; the last values are held.

    `options` are those of the scheduler that was written down.
    """

    rates: Mapping[float, Sequence[float]] = field(repr=False)
    momenta: Sequence[float] | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    def lr(self, step: int, base_lr: float) -> float:
        """The rate that was written down. Raises KeyError for a base rate that was not."""
        rates = self.rates[base_lr]
        return rates[min(step, len(rates) - 1)]

    def momentum(self, step: int) -> float | None:
        """Momentum (Adam: beta1) at a step; None when it does not move."""
        return None if self.momenta is None else self.momenta[min(step, len(self.momenta) - 1)]
