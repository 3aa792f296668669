"""Whether a run is better than another by more than chance: on the same test samples, or over seeds. Without torch."""

from dlkit.run_comparison.comparing import MetricDifference, RunComparison, compare_runs
from dlkit.run_comparison.grouping import RunGroup, group_runs
from dlkit.run_comparison.paired import mid_p_value, paired_difference
from dlkit.run_comparison.seeds import student_p_value, welch_difference
