"""Reasons to stop between two optimizer steps: a signal, or the time being up."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class StopRequest:
    """Says when the loop should stop. `deadline` is a time of the monotonic clock."""

    deadline: float | None = None
    signal_number: int | None = None
    save_now: bool = field(default=False)

    @property
    def is_due(self) -> bool:
        """Whether to stop before the next step."""
        return self.signal_number is not None or self.is_late

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def take_save_request(self) -> bool:
        """Whether SIGUSR1 asked for a checkpoint since the last call."""
        asked, self.save_now = self.save_now, False
        return asked


@contextmanager
def watch_signals(stop: StopRequest) -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop, and SIGUSR1 into one to save.

    The second of the stopping signals does what it would have done without us. Handlers can be set in the main thread only;
    elsewhere nothing is watched. What was set before is put back.
    """

    def on_stop(number: int, frame: FrameType | None) -> None:
        stop.signal_number = number
        for other in watched:
            signal.signal(other, before[other])

    def on_save(number: int, frame: FrameType | None) -> None:
        stop.save_now = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # an ignored signal stays ignored, as nohup and shells in the background want it
    watched = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_stop) for number in watched}
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, on_save)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
