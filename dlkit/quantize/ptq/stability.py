"""Whether the ranges found in calibration can be trusted: do two halves of the data give the same ones?"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.events import Emit, ignore
from dlkit.quantize.graph import observed_tensors
from dlkit.quantize.observe import RangeObserver
from dlkit.quantize.ptq.calibration import calibrate_part, prepare_to_observe
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


def observe_in_halves(
    network: nn.Module, recipe: Recipe, batches: Sequence[Tensor], emit: Emit = ignore
) -> tuple[GraphModule, Stability]:
    """What `observe_network` gives, and whether every other batch and the rest agree, from one look at each batch.

    Raises ValueError with fewer than two batches, and what `observe_network` raises.
    """
    if len(batches) < 2:
        raise ValueError("two halves of the calibration data need at least two batches")
    prepared = prepare_to_observe(network, recipe, batches[0])
    observers = [module for module in prepared.modules() if isinstance(module, RangeObserver)]
    numbers = range(len(batches))
    calibrate_part(prepared, batches, numbers[::2], emit)
    first, seen = _ranges(prepared), [copy.deepcopy(observer) for observer in observers]
    for observer in observers:
        observer.clear()
    calibrate_part(prepared, batches, numbers[1::2], emit, done=len(numbers[::2]))
    stability = _compare(first, _ranges(prepared))
    for observer, before in zip(observers, seen, strict=True):
        observer.merge(before)
    return prepared, stability


def _ranges(prepared: GraphModule) -> dict[str, float]:
    return {observed.name: observed.observer.affine().scale for observed in observed_tensors(prepared)}


def _compare(first: dict[str, float], second: dict[str, float]) -> Stability:
    factors = {name: max(first[name] / second[name], second[name] / first[name]) for name in first}
    if not factors:  # all of the network is kept in float
        return Stability(1.0, 1.0, "")
    worst = max(factors, key=lambda name: factors[name])
    return Stability(sorted(factors.values())[len(factors) // 2], factors[worst], worst)
