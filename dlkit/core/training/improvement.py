"""Which values of a metric are better, and how long there has been no improvement."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dlkit.tasks import metric_of


def pick_mode(metric: str, mode: str = "auto") -> str:
    """Returns `min` or `max`; auto goes by the metric's name."""
    if mode != "auto":
        return mode
    return metric_of(metric).mode


def is_better(value: float, best: float | None, *, mode: str, min_delta: float = 0.0) -> bool:
    """Returns whether a value improves on the best so far by more than `min_delta`; NaN never does."""
    if math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return value < best - min_delta if mode == "min" else value > best + min_delta


@dataclass
class BestSoFar:
    """The best value of the metric that decides best.pt, and its epoch, counted from 1; of what was saved, the step and the hash of
    the weights.
    """

    metric: str
    mode: str
    value: float | None = None
    epoch: int | None = None
    step: int | None = None
    weights: str | None = None

    def observe(self, value: float, epoch: int) -> bool:
        """Take a value in and return whether it is the best now; of equal ones the later, which was trained for longer."""
        if value != self.value and not is_better(value, self.value, mode=self.mode):
            return False
        self.value, self.epoch, self.step, self.weights = value, epoch, None, None
        return True

    def bind(self, step: int, weights: str) -> None:
        """Say which weights these are."""
        self.step, self.weights = step, weights

    def forget(self) -> None:
        """Let the next value be the best, whatever came before."""
        self.value, self.epoch, self.step, self.weights = None, None, None, None

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned, unless another metric decides now."""
        if (state["metric"], state["mode"]) == (self.metric, self.mode):
            self.value, self.epoch = state["value"], state["epoch"]
            self.step, self.weights = state["step"], state["weights"]


@dataclass
class EarlyStopping:
    """Counts evaluations without improvement."""

    metric: str
    mode: str
    patience: int
    min_delta: float = 0.0
    min_epochs: int = 0
    best: float | None = None
    num_bad: int = 0
    is_over: bool = False

    def observe(self, value: float, epoch: int) -> bool:
        """Take an evaluation in (`epoch` counts from 1) and return whether it is time to stop."""
        if is_better(value, self.best, mode=self.mode, min_delta=self.min_delta):
            self.best, self.num_bad = value, 0
        else:
            self.num_bad += 1
        self.is_over = self.num_bad >= self.patience and epoch >= self.min_epochs
        return self.is_over

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"best": self.best, "num_bad": self.num_bad, "is_over": self.is_over}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; with more patience than before it is not over."""
        self.best, self.num_bad = state["best"], state["num_bad"]
        self.is_over = bool(state["is_over"]) and self.num_bad >= self.patience
