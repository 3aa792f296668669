"""Which worker has which trial, so that none runs twice at once and none is lost with its worker.

A trial names its worker and counts that worker's beats in the storage, which all workers share. A worker that is gone is known
at once on its own machine, where the system frees its lock file, and elsewhere when its beats have stood still for STILL_S by
the clock of whoever watches. Its trial is then gone on with under the same number.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

BEAT_S = 5.0
STILL_S = 40.0
_SETTLE_S = 1.0  # between a claim and the look whether another machine claimed too
_LOOK_S = 0.5
_ATTRIBUTE = "worker"


@dataclass(frozen=True)
class _Watched:
    """How a trial of another machine was signed when this was first seen, and whether that changed since it is watched."""

    signed: Any
    since: float
    is_alive: bool = False


@dataclass
class SweepWorker:
    """This process, as others see it: `folder` holds its lock file. `storage` must be the study's. All must agree on both times."""

    study: Study
    storage: BaseStorage
    folder: Path
    beat_s: float = BEAT_S
    still_s: float = STILL_S
    token: str = field(default_factory=lambda: os.urandom(8).hex())

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._place = f"{socket.gethostname()}:{self.folder.resolve()}"
        self._lock = FileLock(self._lock_path(self.token), thread_local=False)
        self._lock.acquire()
        self._claiming = FileLock(self.folder / "claim.lock")
        self._seen: dict[int, _Watched] = {}

    def _lock_path(self, token: str) -> Path:
        return self.folder / f"{token}.lock"

    def leave(self) -> None:
        """Be no worker any more."""
        self._lock.release()
        self._lock_path(self.token).unlink(missing_ok=True)

    def next_trial(self, most: int | None, *, is_over: Callable[[], bool]) -> tuple[Trial, bool] | None:
        """Returns a trial whose worker is gone, else a new one, and whether others worked at it before; None when there is none for
        this worker. Waits as long as a worker may turn out to be gone, unless `is_over`.
        """
        self._seen.clear()  # who was there before may be gone since
        while not is_over():
            trials = [trial for trial in self.study.get_trials(deepcopy=False) if most is None or trial.number < most]
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            for trial in running:
                if self._is_left(trial) and self._claim(trial):
                    return Trial(self.study, trial._trial_id), True
            taken = sum(trial.state != TrialState.WAITING for trial in trials)
            if (most is None or taken < most) and (new := self._begin(most)):
                return new, False
            if not any(self._may_be_left(trial) for trial in running):
                return None
            time.sleep(_LOOK_S)
        return None

    def _begin(self, most: int | None) -> Trial | None:
        """Returns a new trial. Numbers are given out by the storage: one beyond the last waits for a sweep that goes further."""
        trial = self.study.ask()
        if most is not None and trial.number >= most:
            self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            return None
        self._sign(trial._trial_id, beat=0)
        return trial

    def _sign(self, trial_id: int, *, beat: int) -> None:
        worker = {"token": self.token, "place": self._place, "beat": beat}
        self.storage.set_trial_user_attr(trial_id, _ATTRIBUTE, worker)

    def _is_left(self, trial: FrozenTrial) -> bool:
        """Whether a running trial has no worker any more."""
        signed = trial.user_attrs.get(_ATTRIBUTE)
        if signed is not None and signed["token"] in (None, self.token):
            return signed["token"] is None
        if signed is not None and signed["place"] == self._place:
            return self._is_gone(signed["token"])
        seen = self._seen.setdefault(trial.number, _Watched(signed, time.monotonic()))
        if seen.signed != signed:
            seen = self._seen[trial.number] = _Watched(signed, time.monotonic(), is_alive=True)
        return time.monotonic() - seen.since > self.still_s

    def _may_be_left(self, trial: FrozenTrial) -> bool:
        """Whether it is not known yet that somebody works at it."""
        signed = trial.user_attrs.get(_ATTRIBUTE)
        if signed is not None and signed["place"] == self._place:
            return False
        return not self._seen[trial.number].is_alive

    def _is_gone(self, token: str) -> bool:
        try:
            with FileLock(self._lock_path(token), timeout=0):
                return True
        except Timeout:
            return False

    def _claim(self, trial: FrozenTrial) -> bool:
        """Sign a trial that is left, unless another worker does so at the same time."""
        with self._claiming:
            now = self.storage.get_trial(trial._trial_id)
            if now.state != TrialState.RUNNING or now.user_attrs.get(_ATTRIBUTE) != trial.user_attrs.get(_ATTRIBUTE):
                return False
            self._sign(trial._trial_id, beat=0)
        signed = trial.user_attrs.get(_ATTRIBUTE)
        if signed is None or signed["place"] != self._place:
            time.sleep(_SETTLE_S)  # no lock is shared with workers on other machines
        elif signed["token"]:
            self._lock_path(signed["token"]).unlink(missing_ok=True)
        return self.has(trial._trial_id)

    def has(self, trial_id: int) -> bool:
        """Whether a trial is this worker's."""
        signed = self.storage.get_trial(trial_id).user_attrs.get(_ATTRIBUTE)
        return signed is not None and signed["token"] == self.token

    def release(self, trial: Trial) -> None:
        """Leave a trial for whoever comes next."""
        self.storage.set_trial_user_attr(trial._trial_id, _ATTRIBUTE, {"token": None, "place": self._place, "beat": 0})

    @contextmanager
    def beating(self, trial: Trial, on_loss: Callable[[], None]) -> Iterator[None]:
        """Count beats while a trial is worked at. `on_loss` is called once another worker has taken it, as this one did not answer."""
        done = threading.Event()

        def beat() -> None:
            number = 0
            while not done.wait(self.beat_s):
                number += 1
                with suppress(Exception):  # a data base that is away for a moment; the next beat tries again
                    if not self.has(trial._trial_id):
                        return on_loss()
                    self._sign(trial._trial_id, beat=number)
            return None

        thread = threading.Thread(target=beat, name="dlkit sweep beats", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
