"""Learning rates of a run: schedules by name, and torch's own scheduler classes."""

from dlkit.core.training.rates.learning_rates import CurveRates, LearningRates, build_learning_rates, curve_schedule
from dlkit.core.training.rates.torch_schedules import build_torch_schedule, find_scheduler

__all__ = [
    "CurveRates",
    "LearningRates",
    "build_learning_rates",
    "build_torch_schedule",
    "curve_schedule",
    "find_scheduler",
]
