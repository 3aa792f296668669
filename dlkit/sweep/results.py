"""What a sweep has come to, and the files that tell it: sweep.json, best.yaml and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from dlkit.config import KeySpace, dump_config
from dlkit.core.training import is_better
from dlkit.events import Emit, Saved, TrialDone
from dlkit.files import save_figure, write_json, write_text
from dlkit.sweep.pictures import draw_history, draw_importance, find_importance
from dlkit.sweep.request import SweepRequest
from dlkit.sweep.sampling import shown_values, stored_values

SWEEP_FILE, BEST_FILE = "sweep.json", "best.yaml"
SCHEMA = "dlkit.sweep/1"


@dataclass(frozen=True)
class TrialRow:
    """A trial as results tell it. `settings` are its values by key, `values` the metric of each of its runs, `value` their mean."""

    number: int
    status: str
    settings: Mapping[str, Any]
    value: float | None = None
    deviation: float | None = None
    values: Sequence[float] = ()
    epochs: int = 0
    best_epochs: Sequence[int] = ()
    test: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    def done(self, metric: str, *, best: bool) -> TrialDone:
        """Returns the event of a trial that is over."""
        return TrialDone(
            *(self.number, self.status, shown_values(self.settings), metric),
            *(self.value, self.deviation, self.epochs, best),
        )


@dataclass(frozen=True)
class SweepResult:
    """A sweep as it stands: all trials by number, those that run included, and the importance of each key for the metric."""

    folder: Path
    metric: str
    mode: str
    trials: Sequence[TrialRow]
    most_trials: int | None
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> TrialRow | None:
        """The best trial that trained to its end; of equal ones the first."""
        best: TrialRow | None = None
        for row in self.trials:
            before = None if best is None else best.value
            if row.status == "finished" and row.value is not None and is_better(row.value, before, mode=self.mode):
                best = row
        return best

    @property
    def done(self) -> list[TrialRow]:
        """The trials that are over."""
        return [row for row in self.trials if row.status != "running"]

    @property
    def is_complete(self) -> bool:
        """Whether no trial is left."""
        return self.most_trials is not None and len(self.done) >= self.most_trials

    @property
    def epochs(self) -> int:
        """The epochs that all trials have trained."""
        return sum(row.epochs for row in self.trials)

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain values."""
        return {
            "schema": SCHEMA,
            "folder": str(self.folder),
            "metric": self.metric,
            "mode": self.mode,
            "complete": self.is_complete,
            "epochs": self.epochs,
            "best": self.best and asdict(self.best),
            "best_config": str(self.folder / BEST_FILE) if self.best else None,
            "importance": dict(self.importance),
            "trials": [asdict(row) for row in self.trials],
        }


def read_result(study: Study, request: SweepRequest, folder: Path, metric: str, mode: str) -> SweepResult:
    """Returns what the storage says of a sweep."""
    most = request.most_trials
    trials = [
        _row_of(trial, request.space.spaces)
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING and (most is None or trial.number < most or trial.state.is_finished())
    ]
    return SweepResult(folder, metric, mode, trials, most)


def _row_of(trial: FrozenTrial, spaces: Sequence[KeySpace]) -> TrialRow:
    settings, outcome = stored_values(trial, spaces), dict(trial.user_attrs.get("outcome", {}))
    if not trial.state.is_finished():
        return TrialRow(trial.number, "running", settings, epochs=len(trial.intermediate_values))
    values = outcome.get("values", [])
    value = trial.value if trial.state == TrialState.COMPLETE else values[0] if values else None
    return TrialRow(trial.number, **{"status": "failed", **outcome, "settings": settings, "value": value})


def save_result(result: SweepResult, request: SweepRequest, name: str, emit: Emit) -> None:
    """Write sweep.json and, once a trial has come to its end, its config to best.yaml."""
    write_json(result.folder / SWEEP_FILE, result.to_json())
    if result.best is not None:
        loaded = request.space.load(result.best.settings, f"name={name}-best")
        write_text(result.folder / BEST_FILE, dump_config(loaded.config))
        emit(Saved(result.folder / BEST_FILE, "best config"))


def save_pictures(result: SweepResult, emit: Emit) -> None:
    """Write history.png and, where it can be told, importance.png."""
    if any(row.value is not None for row in result.trials):
        save_figure(result.folder / "history.png", draw_history(result))
        emit(Saved(result.folder / "history.png", "picture"))
    if result.importance:
        save_figure(result.folder / "importance.png", draw_importance(result))
        emit(Saved(result.folder / "importance.png", "picture"))


def with_importance(result: SweepResult, study: Study) -> SweepResult:
    """Returns the result with the importance of each key, where there are trials enough to tell."""
    return replace(result, importance=find_importance(study))
