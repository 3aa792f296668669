"""What tasks report while they run. The command line draws these, tests collect them, libraries ignore them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFRESH_S = 0.1


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Note(Event):
    """A sentence that people should see once: a fallback was taken, an option has no effect here."""

    text: str


@dataclass(frozen=True)
class RunStarted(Event):
    """Everything is built and checked; the first step comes next. `split_sizes` count samples."""

    run_dir: Path | None
    model: str
    num_parameters: int
    num_trainable: int
    device: str
    precision: str
    split_sizes: Mapping[str, int]
    batch_size: int
    accumulate: int
    epochs: int
    steps_per_epoch: int
    total_steps: int
    start_step: int
    processes: int = 1


@dataclass(frozen=True)
class Progress(Event):
    """The progress of training, sent on a timer and never per step. `loss` and `value`, of the metric of this name, are means over
    the epoch so far.
    """

    epoch: int
    epochs: int
    step: int
    total_steps: int
    step_in_epoch: int
    steps_in_epoch: int
    loss: float
    metric: str
    value: float
    lr: float
    samples_per_s: float


@dataclass(frozen=True)
class Evaluating(Event):
    """The batches of an evaluation that are done."""

    split: str
    done: int
    total: int


@dataclass(frozen=True)
class Sweeping(Event):
    """The progress of a learning-rate range test, sent on a timer; `sweep` counts from 1, `loss` is smoothed."""

    sweep: int
    sweeps: int
    step: int
    steps: int
    lr: float
    loss: float


@dataclass(frozen=True)
class Working(Event):
    """The progress of any longer work, sent on a timer: `calibrating` 12 of 32."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class StepsDone(Event):
    """What metrics.jsonl has of the optimizer steps of the last seconds: `step`, `epoch`, `lr`, `loss` and what else there is."""

    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class EpochDone(Event):
    """The metrics of an epoch, with the keys of metrics.csv; `best` says whether it is the best so far."""

    epoch: int
    epochs: int
    row: Mapping[str, float | int | None]
    best: bool


@dataclass(frozen=True)
class Saved(Event):
    """A file was written."""

    path: Path
    what: str


@dataclass(frozen=True)
class Tested(Event):
    """Metrics of the test split; accuracies are fractions of 1."""

    split: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RunEnded(Event):
    """A run is over, with the status of run.json, and all of its files are written; trackers alone are told."""

    run_dir: Path
    status: str


@dataclass(frozen=True)
class SweepStarted(Event):
    """A sweep begins or is joined; `done` of its `trials` are over, None where only time ends it."""

    folder: Path
    metric: str
    mode: str
    done: int
    trials: int | None
    keys: Sequence[str]


@dataclass(frozen=True)
class TrialStarted(Event):
    """A trial of a sweep begins, or goes on where another worker left it."""

    number: int
    values: Mapping[str, str]
    is_resumed: bool


@dataclass(frozen=True)
class TrialDone(Event):
    """A trial of a sweep is over, by this worker or another: `value` is the mean of its runs, None of one that came to none;
    `epochs` are those that were trained, `best` says whether it is the best so far.
    """

    number: int
    status: str
    values: Mapping[str, str]
    metric: str
    value: float | None
    deviation: float | None
    epochs: int
    best: bool


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Take an event and do nothing."""


class Throttle:
    """Decides when to do something at most every `every_s` seconds, so that work does not wait for screens and files."""

    def __init__(self, every_s: float = REFRESH_S, *, clock: Callable[[], float] | None = None) -> None:
        self._every_s, self._clock = every_s, clock or time.monotonic
        self.restart()

    def restart(self) -> None:
        """Start counting the seconds anew."""
        self._started = self._clock()

    def is_due(self) -> bool:
        """Whether the seconds are over; if so, counting starts anew."""
        is_over = self._clock() - self._started >= self._every_s
        if is_over:
            self.restart()
        return is_over
