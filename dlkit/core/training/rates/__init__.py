"""Learning rates of a run: schedules by name, and torch's own scheduler classes."""

from dlkit.core.training.rates.learning_rates import (
    CurveRates,
    LearningRates,
    build_learning_rates,
    pick_schedule,
    resolve_schedule,
)
from dlkit.core.training.rates.torch_rates import SchedulerClass, TorchRates
from dlkit.core.training.rates.torch_schedules import build_torch_schedule, find_scheduler, tabulate_scheduler
