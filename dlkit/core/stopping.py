"""Reasons to stop between two optimizer steps: a signal, the time being up, or a decision of whoever started the run.

Several processes must stop at the same step, so none of them acts on a signal or a clock of its own: each votes, the votes
are added up once per step, and what somebody asked for holds for all.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dlkit.signals import SAVING, STOPPING, handled_signals


@dataclass
class StopRequest:
    """Says when the loop should stop. `deadline` is a time of the monotonic clock; `ended_as` the status of a run that was ended
    from outside, as a sweep ends trials that are worse than others.

    `signal_number` is the signal that stops the run; with `is_shared` only once the votes of all processes are settled.
    """

    deadline: float | None = None
    signal_number: int | None = None
    save_now: bool = field(default=False)
    is_shared: bool = False
    ended_as: str | None = None

    def __post_init__(self) -> None:
        self._asked_signal: int | None = None
        self._asked_save = False
        self._is_settled_late = False

    def ask(self, signal_number: int) -> None:
        """Ask for a stop, or for a checkpoint by SIGUSR1."""
        if signal_number in SAVING:
            self._asked_save, self.save_now = True, self.save_now or not self.is_shared
        else:
            self._asked_signal = signal_number
            self.signal_number = self.signal_number if self.is_shared else signal_number

    @property
    def is_due(self) -> bool:
        """Whether to stop before the next step."""
        is_over = self.signal_number is not None or self.ended_as is not None
        return is_over or (self._is_settled_late if self.is_shared else self.is_late)

    @property
    def status(self) -> str:
        """What becomes of a run that stops now."""
        return "interrupted" if self.signal_number is not None else self.ended_as or "max_time"

    @property
    def is_late(self) -> bool:
        """Whether the time is up, by this process's clock."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def is_asked(self) -> bool:
        """Whether this process knows of a reason to stop, be it settled or not."""
        return self.is_due or self._asked_signal is not None or self.is_late

    def votes(self) -> list[float]:
        """What this process wants: a 1 for each signal it got, for its time being up, and for a checkpoint."""
        asked_save, self._asked_save = self._asked_save, False
        return [*(float(self._asked_signal == number) for number in STOPPING), float(self.is_late), float(asked_save)]

    def settle(self, counts: Sequence[float]) -> None:
        """Take in the sums of the votes of all processes."""
        *by_signal, late, save = counts
        asked = [number for number, count in zip(STOPPING, by_signal, strict=True) if count]
        self.signal_number = asked[0] if asked else self.signal_number
        self._is_settled_late = self._is_settled_late or late > 0
        self.save_now = self.save_now or save > 0

    def take_save_request(self) -> bool:
        """Whether SIGUSR1 asked for a checkpoint since the last call."""
        asked, self.save_now = self.save_now, False
        return asked


@contextmanager
def watch_signals(stop: StopRequest) -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop, and SIGUSR1 into one to save.

    A second stopping signal, unless it comes at once, does what it would have done without us.
    """
    with handled_signals(STOPPING, stop.ask, is_once=True), watch_save_signal(stop):
        yield


@contextmanager
def watch_save_signal(stop: StopRequest) -> Iterator[None]:
    """Turn SIGUSR1 into a request to save, which waits for the next step where none is being made."""
    with handled_signals(SAVING, stop.ask):
        yield
