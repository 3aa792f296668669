"""One trial: its runs, one after the other, in this process, and what they come to."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from optuna.study import Study
from optuna.trial import Trial, TrialState

from dlkit.core.out_of_memory import is_out_of_memory
from dlkit.core.random_state import seeded
from dlkit.core.release_memory import release_run
from dlkit.core.stopping import StopRequest
from dlkit.core.training import (
    Resume,
    TrainResult,
    checkpoints_in,
    delete_reclaimable,
    find_reclaimable,
    read_ended,
    run_training,
)
from dlkit.errors import ConfigError, Diverged, OutOfResource, OutputError, first_line
from dlkit.events import Emit, EpochDone, Event, Note
from dlkit.report import write_run_page
from dlkit.run_folders import MODEL_FILE, has_begun, read_run
from dlkit.sweep.request import SweepRequest, TrialRun

PRUNED = "pruned"
LOST = "lost"  # to another worker
TrialStatus = Literal["finished", "pruned", "diverged", "failed", "open"]
_PRUNED_AT = "pruned_at"


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial came to; `open` is one that is gone on with another time. `values` are those of its runs."""

    status: TrialStatus
    values: Sequence[float] = ()
    epochs: int = 0
    best_epochs: Sequence[int] = ()
    test: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def value(self) -> float:
        """The mean of its runs."""
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of its runs, of the mean of several; None of one."""
        return stdev(self.values) if len(self.values) > 1 else None

    def tell(self, study: Study, trial: Trial) -> None:
        """Write it to the storage."""
        facts: dict[str, Any] = {
            "status": self.status,
            "values": list(self.values),
            "deviation": self.deviation,
            "epochs": self.epochs,
        }
        facts |= {"best_epochs": list(self.best_epochs), "test": self.test, "error": self.error}
        trial.set_user_attr("outcome", facts)
        if self.status == "finished":
            study.tell(trial, self.value)
        else:
            # to the samplers a trial that diverged is as bad as one that was pruned; of one that failed they learn nothing
            study.tell(trial, state=TrialState.FAIL if self.status == "failed" else TrialState.PRUNED)


@dataclass
class TrialRunner:
    """Runs trials of a sweep below its folder. `metric` is the column that judges; `deadline` a time of the monotonic clock."""

    request: SweepRequest
    folder: Path
    metric: str
    deadline: float | None
    emit: Emit

    def run(self, trial: Trial, values: dict[str, Any], stop: StopRequest, *, was_begun: bool) -> TrialOutcome:
        """Run, or go on with, all runs of a trial. What is a fault of its values is an outcome; other errors are raised."""
        results: list[TrainResult] = []
        try:
            for member in self.request.members:
                ended = _read_result(self.folder / member.folder(trial.number)) if was_begun else None
                results.append(ended or self._run_member(trial, values, member, stop, is_judged=not results))
                if results[-1].status == "max_time" and self._is_late(stop):
                    return TrialOutcome("open")
                if stop.ended_as == LOST:
                    return TrialOutcome("open")
                # told at its last epoch a run is whole; what is spared is the other runs
                if results[-1].status == PRUNED or (stop.ended_as == PRUNED and len(self.request.members) > 1):
                    return self._outcome("pruned", results)
        except Diverged as error:
            return TrialOutcome("diverged", error=first_line(error, 300), epochs=self._trained(trial))
        except (ConfigError, OutOfResource) as error:
            if isinstance(error, OutOfResource) and not (error.__cause__ and is_out_of_memory(error.__cause__)):
                raise
            return TrialOutcome("failed", error=first_line(error, 300), epochs=self._trained(trial))
        return self._outcome("finished", results)

    def drop_checkpoints(self, trial: Trial) -> None:
        """Delete the checkpoints of a trial that is over; its model files stay. What cannot be deleted is a note."""
        for folder in self._folders(trial):
            try:
                if has_begun(folder) and (found := find_reclaimable(folder)).files:
                    delete_reclaimable(found, self.emit)
            except OutputError as error:
                self.emit(Note(str(error)))

    def _is_late(self, stop: StopRequest) -> bool:
        return self.deadline is not None and stop.deadline == self.deadline and stop.is_late

    def _trained(self, trial: Trial) -> int:
        return sum(len(read_run(folder).epochs) for folder in self._folders(trial))

    def _folders(self, trial: Trial) -> list[Path]:
        return [self.folder / member.folder(trial.number) for member in self.request.members]

    def _outcome(self, status: TrialStatus, results: Sequence[TrainResult]) -> TrialOutcome:
        values = [float(result.best["value"]) for result in results if result.best.get("value") is not None]
        if status == "finished" and len(values) < len(results):
            return TrialOutcome("failed", error=f"{self.metric} was never a number")
        names = results[0].metrics.keys()
        return TrialOutcome(
            status,
            values,
            epochs=sum(len(result.history) for result in results),
            best_epochs=[int(result.best["epoch"]) for result in results if result.best.get("epoch") is not None],
            test={name: fmean(result.metrics[name] for result in results) for name in names},
        )

    def _run_member(
        self, trial: Trial, values: dict[str, Any], member: TrialRun, stop: StopRequest, *, is_judged: bool
    ) -> TrainResult:
        # a bare `--resume` of the config's own runs looks below its runtime.out
        below = f"runtime.out={json.dumps(str(self.folder), ensure_ascii=False)}"
        loaded = self.request.space.load(values, *member.overrides, below)
        folder = self.folder / member.folder(trial.number)
        judge = _Judge(trial, self.metric, stop)
        if is_judged:
            judge.take_before(folder)

        def emit(event: Event) -> None:
            self.emit(event)
            if is_judged and isinstance(event, EpochDone):
                judge.take(event.epoch, event.row.get(self.metric))

        stop.deadline = self.deadline
        resume = Resume(folder) if has_begun(folder) else None
        try:
            with seeded(member.seed):  # what was drawn before goes on afterwards
                return run_training(loaded, out=folder, resume=resume, stop=stop, write_page=write_run_page, emit=emit)
        finally:
            release_run()


def _read_result(folder: Path) -> TrainResult | None:
    """Returns what a run came to whose checkpoints were deleted after it had ended, as by `dlkit runs`; it cannot be resumed."""
    if checkpoints_in(folder / "checkpoints") or (ended := read_ended(folder)) is None:
        return None
    return TrainResult(folder, folder / MODEL_FILE, ended.status, ended.test, ended.best, ended.history)


class _Judge:
    """Tells the pruner how a trial does, epoch by epoch, and ends its run when that says so."""

    def __init__(self, trial: Trial, metric: str, stop: StopRequest) -> None:
        self._trial, self._metric, self._stop = trial, metric, stop
        self._known = set(trial.storage.get_trial(trial._trial_id).intermediate_values)
        if _PRUNED_AT in trial.user_attrs:
            self._stop.ended_as = PRUNED

    def take_before(self, folder: Path) -> None:
        """Take in epochs that were trained, but not told, before the run was killed."""
        for row in read_run(folder).epochs if has_begun(folder) else []:
            self.take(int(row["epoch"] or 0), row.get(self._metric))

    def take(self, epoch: int, value: float | int | None) -> None:
        """Take in the metric of an epoch; what is known already changes nothing."""
        if value is None or epoch in self._known:
            return
        self._known.add(epoch)
        self._trial.report(float(value), epoch)
        if not math.isnan(value) and self._trial.should_prune():
            self._trial.set_user_attr(_PRUNED_AT, epoch)
            self._stop.ended_as = self._stop.ended_as or PRUNED
