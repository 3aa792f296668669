"""Lower the rate when a metric stops improving: torch's ReduceLROnPlateau without an optimizer.

Its rules are kept exactly, though they surprise people: the rate falls on bad value number `patience + 1`; a value equal
to the best is bad, and so is NaN; during the cooldown bad values do not count, but the best still changes; a reduction
smaller than `eps` is dropped, so with the defaults the rate never falls below about 1.1e-8; `min_lr` never raises a rate.
With `threshold_mode: rel` a negative metric counts as improved when it is a little worse (best * (1 - threshold) is above
best), so metrics that can be negative need `threshold_mode: abs`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlkit.schedules.option_checks import check_choice, check_number, check_whole


@dataclass(frozen=True)
class Plateau:
    """The options of torch's ReduceLROnPlateau. `start` returns the state that follows a run."""

    is_dated: ClassVar[bool] = True  # see Curve

    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float | Sequence[float] = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("min", "max"))
        check_number("factor", self.factor, least=0)
        if self.factor >= 1:
            raise ValueError(f"factor must be below 1, so that the rate falls, got {self.factor!r}")
        check_whole("patience", self.patience, least=0)
        check_number("threshold", self.threshold, least=0)
        check_choice("threshold_mode", self.threshold_mode, ("rel", "abs"))
        check_whole("cooldown", self.cooldown, least=0)
        check_number("eps", self.eps, least=0)
        if not isinstance(self.min_lr, int | float | list | tuple):
            raise ValueError(
                f"min_lr must be a number, or a list with one number per parameter group, got {self.min_lr!r}"
            )
        for floor in self.min_lr if isinstance(self.min_lr, list | tuple) else (self.min_lr,):
            check_number("min_lr", floor, least=0)

    def start(self, lrs: Sequence[float]) -> "PlateauState":
        """The state before the first metric, for groups with these rates.

        Raises ValueError if `min_lr` is a list of another length.
        """
        return PlateauState(self, lrs)

    def is_better(self, metric: float, best: float) -> bool:
        """Whether a metric counts as improved."""
        if self.threshold_mode == "rel":
            limit = best * (1.0 - self.threshold if self.mode == "min" else self.threshold + 1.0)
        else:
            limit = best - self.threshold if self.mode == "min" else best + self.threshold
        return metric < limit if self.mode == "min" else metric > limit


class PlateauState:
    """The state of a plateau: the rate of each group, the best metric, bad values so far, cooldown left."""

    def __init__(self, plateau: Plateau, lrs: Sequence[float]) -> None:
        self.plateau = plateau
        self.lrs = [float(lr) for lr in lrs]
        self.best = math.inf if plateau.mode == "min" else -math.inf
        self.num_bad = 0
        self.cooldown_left = 0
        floors = plateau.min_lr
        self._floors = [*floors] if isinstance(floors, Sequence) else [floors] * len(self.lrs)
        if len(self._floors) != len(self.lrs):
            raise ValueError(f"min_lr has {len(self._floors)} values for {len(self.lrs)} parameter groups")

    def step(self, metric: float) -> bool:
        """Take the next value of the metric. Returns whether the rates fell."""
        metric = float(metric)
        if self.plateau.is_better(metric, self.best):
            self.best, self.num_bad = metric, 0
        else:
            self.num_bad += 1
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.num_bad = 0
        if self.num_bad <= self.plateau.patience:
            return False
        self.cooldown_left, self.num_bad = self.plateau.cooldown, 0
        return self._reduce()

    def _reduce(self) -> bool:
        before = list(self.lrs)
        for index, (lr, floor) in enumerate(zip(before, self._floors, strict=True)):
            lower = max(lr * self.plateau.factor, floor)
            if lr - lower > self.plateau.eps:
                self.lrs[index] = lower
        return self.lrs != before

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values."""
        return {"lrs": list(self.lrs), "best": self.best, "num_bad": self.num_bad, "cooldown_left": self.cooldown_left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state. Raises ValueError if it has another number of parameter groups."""
        if len(state["lrs"]) != len(self.lrs):
            raise ValueError(f"saved for {len(state['lrs'])} parameter groups, but there are {len(self.lrs)}")
        self.lrs = [float(lr) for lr in state["lrs"]]
        self.best = float(state["best"])
        self.num_bad = int(state["num_bad"])
        self.cooldown_left = int(state["cooldown_left"])
