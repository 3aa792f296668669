"""What a training loop holds: one rate per parameter group, and the state of a plateau if there is one.

    learning_rate = LearningRate(schedule, [group["lr"] for group in optimizer.param_groups])
    for step in range(first_step, total_steps):
        for group, lr in zip(optimizer.param_groups, learning_rate.lrs(step)):
            group["lr"] = lr
        ...                              # forward, backward, optimizer.step()
        learning_rate.observe(val_loss)  # after each validation; changes nothing unless the schedule is a plateau

Apart from a plateau everything is a pure function of the step, so a resumed run only has to know its step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dlkit.schedules.plateau import Plateau
from dlkit.schedules.schedule import LrSchedule


class LearningRate:
    """The rates of all parameter groups, given the base rate of each."""

    def __init__(self, schedule: LrSchedule, base_lrs: Sequence[float]) -> None:
        self.schedule = schedule
        self.base_lrs = [float(lr) for lr in base_lrs]
        self.plateau = schedule.curve.start(self.base_lrs) if isinstance(schedule.curve, Plateau) else None

    def lrs(self, step: int) -> list[float]:
        """The rate of each group for optimizer step number `step`, from 0."""
        bases = self.base_lrs if self.plateau is None else self.plateau.lrs
        return [self.schedule.lr(step, base) for base in bases]

    def momentum(self, step: int) -> float | None:
        """Momentum (Adam: beta1) of all groups for a step; None when it is to be left alone."""
        return self.schedule.momentum(step)

    def observe(self, metric: float) -> bool:
        """Take the metric of a validation. True when a plateau made the rates fall; other schedules ignore it."""
        return self.plateau is not None and self.plateau.step(metric)

    def state_dict(self) -> dict[str, Any]:
        """Plain values; empty unless the schedule is a plateau."""
        return {} if self.plateau is None else {"plateau": self.plateau.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state. Raises ValueError when it belongs to another kind of schedule or other groups."""
        if (self.plateau is not None) != ("plateau" in state):
            raise ValueError(
                f"the saved schedule is {'a' if 'plateau' in state else 'no'} plateau, unlike {self.schedule.name}"
            )
        if self.plateau is not None:
            self.plateau.load_state_dict(state["plateau"])
