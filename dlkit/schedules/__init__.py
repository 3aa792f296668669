"""Learning-rate curves without torch: pure functions of the step.

`lr[k]` is the value that the k-th `optimizer.step()` uses, k from 0. `build_schedule` makes a `Schedule` from a name
and its options; `LearningRate` is what a training loop holds: one value per parameter group, and a plateau's state.
"""

from dlkit.schedules.audit import Finding, audit
from dlkit.schedules.build import build_schedule
from dlkit.schedules.canvas import Canvas, Scale, fit_scale
from dlkit.schedules.composition import Sequence, length_in_steps, parse_pieces
from dlkit.schedules.curves import (
    Constant,
    ConstantFactor,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    MultiStep,
    Polynomial,
    Step,
    WarmupStableDecay,
)
from dlkit.schedules.cycles import CosineRestarts, Cyclic, OneCycle
from dlkit.schedules.export import as_plain, save_traces
from dlkit.schedules.learning_rate import LearningRate
from dlkit.schedules.metrics import load_column, read_series
from dlkit.schedules.options import find_curve, read_plain, stand_ins
from dlkit.schedules.picture import Look, draw_comparison, draw_trace
from dlkit.schedules.plateau import Plateau
from dlkit.schedules.range_export import check_suffix, range_test_as_plain, save_range_test
from dlkit.schedules.range_picture import draw_range_test
from dlkit.schedules.rate_range import RangeTest
from dlkit.schedules.schedule import LrSchedule
from dlkit.schedules.sweep import (
    DivergenceTest,
    Ended,
    Smoother,
    Sweep,
    SweepPlan,
    find_rise,
    log_slopes,
    longest_descent,
)
from dlkit.schedules.tabulated import Tabulated
from dlkit.schedules.torch_code import write_torch_code
from dlkit.schedules.trace import Trace, find_markers, follow, summarize

__all__ = [
    "Canvas",
    "Constant",
    "ConstantFactor",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "DivergenceTest",
    "Ended",
    "Exponential",
    "Finding",
    "InverseSqrt",
    "LearningRate",
    "Linear",
    "Look",
    "LrSchedule",
    "MultiStep",
    "OneCycle",
    "Plateau",
    "Polynomial",
    "RangeTest",
    "Scale",
    "Sequence",
    "Smoother",
    "Step",
    "Sweep",
    "SweepPlan",
    "Tabulated",
    "Trace",
    "WarmupStableDecay",
    "as_plain",
    "audit",
    "build_schedule",
    "check_suffix",
    "draw_comparison",
    "draw_range_test",
    "draw_trace",
    "find_curve",
    "find_markers",
    "find_rise",
    "fit_scale",
    "follow",
    "length_in_steps",
    "load_column",
    "log_slopes",
    "longest_descent",
    "parse_pieces",
    "range_test_as_plain",
    "read_plain",
    "read_series",
    "save_range_test",
    "save_traces",
    "stand_ins",
    "summarize",
    "write_torch_code",
]
