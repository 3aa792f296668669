"""Learning-rate curves without torch: pure functions of the step.

`lr[k]` is the value that the k-th `optimizer.step()` uses, k from 0. `build_schedule` makes a `Schedule` from a name
and its options; `LearningRate` is what a training loop holds: one value per parameter group, and a plateau's state.
"""

from dlkit.schedules.build import build_schedule as build_schedule
from dlkit.schedules.learning_rate import LearningRate as LearningRate
from dlkit.schedules.schedule import LrSchedule as LrSchedule

__all__ = ["LearningRate", "Schedule", "build_schedule"]
