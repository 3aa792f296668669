"""MLflow: parameters, metrics by step, tags and files of a run on a tracking server, written beside the training.

Everything goes through one queue to one thread, so a slow server holds nothing up. What cannot be written waits and is tried
again; a server that stays away costs the run nothing but a note.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dlkit.core.environment import describe_environment
from dlkit.core.training.tracking.tracked_run import PageWriter, TrackedRun
from dlkit.errors import UsageError, first_line
from dlkit.events import Emit, EpochDone, Event, RunEnded, StepsDone, Tested
from dlkit.quantities import counted
from dlkit.run_folders import MODEL_FILE, RESOLVED_FILE, SUMMARY_FILE, flat_settings, read_metrics

# the client waits for minutes by itself, and prints; what somebody sets is left
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_AGAIN_S = 5.0
_LAST_S = 60.0  # for what waits when the run is over and the server answers
_MOST_AT_ONCE = 900  # of 1000 metrics that a request may hold
_LONGEST = 6000  # characters of a parameter
_PARAMS_AT_ONCE = 100
_FILES = (MODEL_FILE, RESOLVED_FILE, SUMMARY_FILE)
_STATUS = {"diverged": "FAILED", "failed": "FAILED", "interrupted": "KILLED"}

Write = Callable[[], Any]


@contextmanager
def _patience() -> Iterator[None]:
    given = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            os.environ.pop(name, None)


def _client(uri: str) -> Any:
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise UsageError("MLflow is not installed here: pip install 'dlkit[mlflow]'") from None
    return MlflowClient(tracking_uri=uri)


def check_server(uri: str) -> None:
    """Raise what the client raises where no server answers, within seconds."""
    with _patience():
        _client(uri).search_experiments(max_results=1)


class Outbox:
    """Writes that wait for the server, in their order. The first that fails is tried again until it succeeds."""

    def __init__(self) -> None:
        self._waiting: deque[Write] = deque()
        self._is_filled, self._is_closed = threading.Event(), threading.Event()
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name="dlkit mlflow", daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        """Add a write; returns at once."""
        self._waiting.append(write)
        self._is_filled.set()

    def close(self) -> int:
        """Let what waits be written, unless the server is away, and return how many writes were not."""
        self._is_closed.set()
        self._is_filled.set()
        self._thread.join(_LAST_S)
        return len(self._waiting)

    def _work(self) -> None:
        while self._waiting or not self._is_closed.is_set():
            self._is_filled.wait()
            self._is_filled.clear()
            while self._waiting:
                if not self._try() and self._is_closed.wait(_AGAIN_S) and not self._try():
                    return

    def _try(self) -> bool:
        try:
            with _patience():
                self._waiting[0]()
        except Exception as error:  # of the network, of the server, of the client
            self.trouble = self.trouble or first_line(error, 200)
            return False
        self._waiting.popleft()
        return True


def open_mlflow(run: TrackedRun, *, uri: str, write_page: PageWriter | None) -> Emit:
    """Begin a run on the server, in the experiment of the run's name, or go on with the one that run.json names.

    Returns what takes the events. Raises the client's errors where the server is away.
    """
    with _patience():
        return _Mlflow(_client(uri), run, write_page).take


class _Mlflow:
    """One run on the server."""

    def __init__(self, client: Any, run: TrackedRun, write_page: PageWriter | None) -> None:
        self._client, self._folder, self._write_page = client, run.folder, write_page
        self._run_id = run.known_as if run.known_as and self._reopen(run.known_as) else self._create(run)
        run.remember(self._run_id)
        self._known = {"train/loss": -1, "train/loss_step": -1}
        self._outbox, self._step, self._is_told = Outbox(), 0, False
        if self._run_id == run.known_as:
            self._known = {name: self._last_step(name) for name in self._known}
        self._catch_up()

    def _create(self, run: TrackedRun) -> str:
        found = self._client.get_experiment_by_name(run.name)
        experiment = found.experiment_id if found else self._client.create_experiment(run.name)
        environment = describe_environment()
        tags = {"dlkit.folder": str(run.folder.resolve()), "dlkit.version": str(environment["dlkit"])}
        tags |= {"dlkit.torch": str(environment["torch"]), "dlkit.host": str(environment.get("host", ""))}
        run_id = str(self._client.create_run(experiment, run_name=run.folder.name, tags=tags).info.run_id)
        from mlflow.entities import Param

        params = [Param(key, str(value)[:_LONGEST]) for key, value in flat_settings(run.config).items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_AT_ONCE])
        return run_id

    def _reopen(self, run_id: str) -> bool:
        """Set a run that is gone on with to running; False where the server has it no more."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def _last_step(self, name: str) -> int:
        return max((metric.step for metric in self._client.get_metric_history(self._run_id, name)), default=-1)

    def take(self, event: Event) -> None:
        """Take an event. Raises, once, what keeps the server from being written to."""
        match event:
            case StepsDone():
                self._log_steps(event.rows)
            case EpochDone():
                self._log_epochs([event.row])
            case Tested():
                self._log({self._step: {f"{event.split}/{name}": value for name, value in event.metrics.items()}})
            case RunEnded():
                self._end(event.status)
        if self._outbox.trouble and not self._is_told:
            self._is_told = True
            raise ConnectionError(f"the server does not take what is written: {self._outbox.trouble}")

    def _catch_up(self) -> None:
        """Write what the server has missed; what a run that was killed trains again is the same."""
        metrics = read_metrics(self._folder)
        self._log_steps(metrics.steps)
        self._log_epochs(metrics.epochs)

    def _log_steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        new = {row["step"]: _of_step(row) for row in rows if row["step"] > self._known["train/loss_step"]}
        self._known["train/loss_step"] = max(new, default=self._known["train/loss_step"])
        self._log(new)

    def _log_epochs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        new = {row["step"]: dict(_of_epoch(row)) for row in rows if row["step"] > self._known["train/loss"]}
        self._step = self._known["train/loss"] = max(new, default=self._known["train/loss"])
        self._log(new)

    def _log(self, rows: Mapping[int, Mapping[str, float | None]]) -> None:
        """Write metrics by step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        named = [(step, name, value) for step, row in rows.items() for name, value in row.items()]
        metrics = [Metric(name, float(value), now, step) for step, name, value in named if value is not None]
        for start in range(0, len(metrics), _MOST_AT_ONCE):
            self._outbox.put(
                partial(self._client.log_batch, self._run_id, metrics=metrics[start : start + _MOST_AT_ONCE])
            )

    def _end(self, status: str) -> None:
        files = [self._folder / name for name in _FILES if (self._folder / name).is_file()]
        page, trouble = self._make_page() if status not in _STATUS else (None, None)
        for path in [*files, *filter(None, [page])]:
            self._outbox.put(partial(self._client.log_artifact, self._run_id, str(path)))
        self._outbox.put(partial(self._client.set_terminated, self._run_id, _STATUS.get(status, "FINISHED")))
        if left := self._outbox.close():
            raise ConnectionError(f"{counted(left, 'write')} did not reach the server: {self._outbox.trouble}")
        if trouble:
            raise trouble

    def _make_page(self) -> tuple[Path | None, Exception | None]:
        """Returns the page of the run, none where the packages that draw it are not installed, and what went wrong."""
        if self._write_page is None:
            return None, None
        try:
            return self._write_page(self._folder, opens_models=False), None
        except Exception as error:
            return None, None if type(error) is UsageError else RuntimeError(f"no report: {first_line(error, 200)}")


def _of_step(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {"train/loss_step": row["loss"], "lr": row["lr"]}


def _of_epoch(row: Mapping[str, float | int | None]) -> Iterator[tuple[str, float | None]]:
    """The metrics of an epoch by the names that TensorBoard has for them."""
    for name, value in row.items():
        prefix, _, metric = name.rpartition("_")
        if prefix in {"train", "val", "val_ema"} and metric != "s":
            yield f"{prefix}/{metric}", value
