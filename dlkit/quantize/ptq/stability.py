"""Whether the ranges found in calibration can be trusted: do two halves of the data give the same ones?"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dlkit.quantize.graph import observed_tensors
from dlkit.quantize.ptq.calibration import observe_network
from dlkit.quantize.recipe import Recipe

NOTABLE = 1.5


@dataclass(frozen=True)
class Stability:
    """By what factor, at least 1, ranges differ between two halves of the calibration data: the median tensor and the worst."""

    median: float
    worst: float
    worst_name: str

    @property
    def note(self) -> str | None:
        """A sentence where a range is not to be trusted."""
        if self.worst < NOTABLE:
            return None
        return (
            f"The range of {self.worst_name} differs by a factor of {self.worst:.1f} between two halves of the calibration data: "
            "take more samples with --calib N, or the observer percentile, which is robust to outliers."
        )


def calibration_stability(network: nn.Module, recipe: Recipe, batches: Sequence[Tensor]) -> Stability:
    """Calibrate on every other batch, then on the others, and compare. Raises ValueError with fewer than two batches."""
    if len(batches) < 2:
        raise ValueError("two halves of the calibration data need at least two batches")
    first, second = (_ranges(network, recipe, half) for half in (batches[::2], batches[1::2]))
    factors = {name: max(first[name] / second[name], second[name] / first[name]) for name in first}
    if not factors:  # all of the network is kept in float
        return Stability(1.0, 1.0, "")
    worst = max(factors, key=lambda name: factors[name])
    return Stability(sorted(factors.values())[len(factors) // 2], factors[worst], worst)


def _ranges(network: nn.Module, recipe: Recipe, batches: Sequence[Tensor]) -> dict[str, float]:
    prepared = observe_network(network, recipe, batches)
    return {observed.name: observed.observer.affine().scale for observed in observed_tensors(prepared)}
