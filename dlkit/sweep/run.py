"""A sweep: the table of contents.

check what is asked for (request.py) -> find the metric that judges (core/training) -> begin or join it in its storage
(storage.py) -> until all trials are over or the time is up: take a trial (claims.py), draw its values (sampling.py), run it
(trials.py) and tell how it went -> sweep.json, best.yaml and pictures (results.py, pictures.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from optuna.study import Study
from optuna.trial import Trial

from dlkit.core.stopping import StopRequest
from dlkit.core.training import pick_mode, resolve_config, run_name
from dlkit.errors import Interrupted, OutputError, UsageError
from dlkit.events import Emit, SweepStarted, TrialStarted, ignore
from dlkit.files import worded
from dlkit.run_folders import has_begun
from dlkit.signals import stopped_by_signals
from dlkit.sweep.claims import SweepWorker
from dlkit.sweep.request import SweepRequest, check_request
from dlkit.sweep.results import SweepResult, read_result, save_pictures, save_result, with_importance
from dlkit.sweep.sampling import build_pruner, build_sampler, draw_values, shown_values
from dlkit.sweep.storage import open_storage, open_study, quiet_optuna
from dlkit.sweep.trials import LOST, PRUNED, TrialRunner

_MOST_FAILED = 3  # trials that fail before any other comes to something


def run_sweep(request: SweepRequest, *, emit: Emit = ignore) -> SweepResult:
    """Begin a sweep, go on with it or join others at it, until no trial is left for this process or its time is up.

    Raises Interrupted when a signal stops it, after saving; the same call goes on. Raises the errors of training that are no fault of a
    trial's values.
    """
    check_request(request)
    with stopped_by_signals("nothing was written"), quiet_optuna():
        sweep = _open(request, emit)
        try:
            with stopped_by_signals(sweep.way_on):
                sweep.run()
        except Interrupted as error:
            raise Interrupted(error.exit_code - 128, sweep.way_on()) from None
        finally:
            sweep.worker.leave()
        result = with_importance(sweep.result(), sweep.study)
        save_result(result, request, sweep.name, emit)
        save_pictures(result, emit)
        return result


def _open(request: SweepRequest, emit: Emit) -> "_Sweep":
    base = request.space.base
    config = resolve_config(base, emit=emit)
    metric = config.checkpoint.metric.replace("/", "_")
    if not metric.startswith("val"):
        raise base.error(
            ("data", "val"), f"a sweep compares trials on validation samples, and {metric} needs none; set data.val"
        )
    mode, name = pick_mode(metric, config.checkpoint.mode), run_name(base)
    folder = request.out or Path(base.config.runtime.out) / f"{name}-sweep"
    if has_begun(folder):
        raise OutputError(f"{folder} is the folder of a run; give another --out for the sweep")
    with worded(folder):
        folder.mkdir(parents=True, exist_ok=True)
    epochs = [space.values for space in request.space.spaces if space.key == "train.epochs"]
    storage = open_storage(request.storage, folder)
    study = open_study(
        storage,
        folder.resolve().name,
        mode=mode,
        sampler=build_sampler(request.sampler, request.space),
        pruner=build_pruner(request.pruner, epochs=max(epochs[0]) if epochs else config.train.epochs),
        spec=request.describe() | {"metric": metric},
    )
    worker = SweepWorker(study, storage, folder / "workers")
    deadline = None if request.seconds is None else time.monotonic() + request.seconds
    runner = TrialRunner(request, folder, metric, deadline, emit)
    return _Sweep(request, folder, metric, mode, name, study, worker, runner, deadline, emit)


@dataclass
class _Sweep:
    """A sweep that this process works at."""

    request: SweepRequest
    folder: Path
    metric: str
    mode: str
    name: str
    study: Study
    worker: SweepWorker
    runner: TrialRunner
    deadline: float | None
    emit: Emit
    told: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Run trials until none is left for this worker or its time is up."""
        result = self.result()
        keys = [space.key for space in self.request.space.spaces]
        most = self.request.most_trials
        self.emit(SweepStarted(self.folder, self.metric, self.mode, len(result.done), most, keys))
        self._tell_new()
        while found := self.worker.next_trial(most, is_over=self._is_late):
            self._run_trial(*found)
            self._tell_new()
            save_result(self.result(), self.request, self.name, self.emit)

    def _run_trial(self, trial: Trial, was_begun: bool) -> None:
        stop = StopRequest()
        on_loss: Callable[[], None] = lambda: setattr(stop, "ended_as", LOST)  # noqa: E731
        try:
            with self.worker.beating(trial, on_loss):
                values = draw_values(trial, self.request.space.spaces)
                self.emit(TrialStarted(trial.number, shown_values(values), was_begun))
                outcome = self.runner.run(trial, values, stop, was_begun=was_begun)
        except BaseException:
            self.worker.release(trial)
            raise
        if stop.ended_as == LOST or not self.worker.has(trial._trial_id):
            return
        if outcome.status == "open":
            self.worker.release(trial)
            return
        outcome.tell(self.study, trial)
        if outcome.status == PRUNED:  # told first: a trial that is not over goes on from its checkpoints
            self.runner.drop_checkpoints(trial)
        self._check_failures(outcome.error)

    def _check_failures(self, error: str | None) -> None:
        """Raise UsageError when the trials fail one after the other, which more of them would not change."""
        statuses = [row.status for row in self.result().done]
        if len(statuses) >= _MOST_FAILED and set(statuses) == {"failed"}:
            raise UsageError(f"all {len(statuses)} trials have failed, the last with: {error}")

    def _tell_new(self) -> None:
        """Report the trials that are over since the last time, those of other workers too."""
        result = self.result()
        for row in result.done:
            if row.number not in self.told:
                self.told.add(row.number)
                self.emit(row.done(self.metric, best=row is result.best))

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def result(self) -> SweepResult:
        """Returns the sweep as it stands."""
        return read_result(self.study, self.request, self.folder, self.metric, self.mode)

    def way_on(self) -> str:
        """What a signal leaves behind."""
        done, most = len(self.result().done), self.request.most_trials
        return (
            f"stopped, saved; {done}{'' if most is None else f' of {most}'} trials are over. The same command goes on"
        )
