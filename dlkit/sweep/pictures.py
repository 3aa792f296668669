"""Pictures of a sweep: how the best value came about, and which keys it depends on."""

import warnings
from typing import TYPE_CHECKING

from optuna.importance import get_param_importances
from optuna.study import Study
from optuna.trial import TrialState

from dlkit.tasks import metric_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dlkit.sweep.results import SweepResult

LEAST_TRIALS = 5  # to the end; of fewer the importance is chance


def find_importance(study: Study) -> dict[str, float]:
    """Returns the share of each key in how good the trials to the end are, by PED-ANOVA, the largest first; empty where few are."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < LEAST_TRIALS or len({trial.value for trial in finished}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of keys that had one value only, whose share is 0
        return {key: float(share) for key, share in get_param_importances(study).items()}


def draw_history(result: "SweepResult") -> "Figure":
    """Returns a picture of the metric of each trial by its number, and of the best up to each."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    scale = 100 if metric_of(result.metric).is_percent else 1
    for status, marker in (("finished", "o"), ("pruned", "x")):
        rows = [row for row in result.trials if row.status == status and row.value is not None]
        numbers, values = [row.number for row in rows], [scale * (row.value or 0) for row in rows]
        axes.errorbar(
            numbers, values, [scale * (row.deviation or 0) for row in rows], fmt=marker, label=f"{status} ({len(rows)})"
        )
    finished = [row for row in result.trials if row.status == "finished" and row.value is not None]
    best: list[float] = []
    pick = max if result.mode == "max" else min
    for row in finished:
        best.append(pick([*best[-1:], scale * (row.value or 0)]))
    axes.step([row.number for row in finished], best, where="post", label="best so far")
    axes.set(xlabel="trial", ylabel=f"{result.metric} [%]" if scale > 1 else result.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def draw_importance(result: "SweepResult") -> "Figure":
    """Returns a picture of the importance of each key."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.4 * len(result.importance)), layout="constrained")
    axes = figure.subplots()
    shares = list(reversed(list(result.importance.items())))
    bars = axes.barh([key for key, _ in shares], [100 * share for _, share in shares])
    axes.bar_label(bars, fmt="%.0f %%", padding=3)
    axes.set(xlabel=f"share in the differences of {result.metric} [%]", xlim=(0, 112))
    axes.grid(alpha=0.3, axis="x")
    return figure
