"""Learning-rate schedules without torch, as pure functions of the step; their plots, audits and files; range tests.

`lr[k]` is the value that the k-th `optimizer.step()` uses, k from 0. `build_schedule` makes a `LrSchedule` from a name and
its options; `LearningRate` is what a training loop holds.
"""

from typing import TYPE_CHECKING

from dlkit.doors import lazy_door

if TYPE_CHECKING:
    from dlkit.schedules.auditing import Finding, audit
    from dlkit.schedules.composition import Sequence
    from dlkit.schedules.curve_options import find_curve, read_plain, stand_ins
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
        Tabulated,
        WarmupStableDecay,
    )
    from dlkit.schedules.cycles import CosineRestarts, Cyclic, OneCycle
    from dlkit.schedules.lr_schedule import LearningRate, LrSchedule, build_schedule
    from dlkit.schedules.metric_series import load_column, read_series
    from dlkit.schedules.plateau import Plateau
    from dlkit.schedules.plot_axes import Look, axis_line, label_line, plot_series
    from dlkit.schedules.range_files import range_test_as_json, save_range_test
    from dlkit.schedules.range_plot import draw_range_test
    from dlkit.schedules.rate_range import RangeTest
    from dlkit.schedules.result_files import check_result_files
    from dlkit.schedules.schedule_files import save_traces, traces_as_json
    from dlkit.schedules.schedule_plot import draw_comparison, draw_trace
    from dlkit.schedules.schedule_trace import Trace, follow
    from dlkit.schedules.sweep import DivergenceTest, Ended, Smoother, Sweep, SweepPlan
    from dlkit.schedules.torch_code import write_torch_code

__getattr__, __all__ = lazy_door(
    __name__,
    {
        "auditing": "Finding audit",
        "composition": "Sequence",
        "curve_options": "find_curve read_plain stand_ins",
        "curves": "Constant ConstantFactor Cosine Exponential InverseSqrt "
        "Linear MultiStep Polynomial Step Tabulated WarmupStableDecay",
        "cycles": "CosineRestarts Cyclic OneCycle",
        "lr_schedule": "LearningRate LrSchedule build_schedule",
        "metric_series": "load_column read_series",
        "plateau": "Plateau",
        "plot_axes": "Look axis_line label_line plot_series",
        "range_files": "range_test_as_json save_range_test",
        "range_plot": "draw_range_test",
        "rate_range": "RangeTest",
        "result_files": "check_result_files",
        "schedule_files": "save_traces traces_as_json",
        "schedule_plot": "draw_comparison draw_trace",
        "schedule_trace": "Trace follow",
        "sweep": "DivergenceTest Ended Smoother Sweep SweepPlan",
        "torch_code": "write_torch_code",
    },
)
