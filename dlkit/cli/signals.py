"""Ending a command by a signal as an error ends it: temporary files are removed, and one line says so."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dlkit.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """Passes through every `except Exception` on its way out."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def stopped_by_signals(consequence: str) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into Interrupted, after everything on the way was cleaned up.

    `consequence` ends its message: "nothing was written". Signals that are ignored stay ignored, and what handled them
    before is put back. Outside of the main thread nothing is watched.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for other in watched:
            signal.signal(other, before[other])
        raise _Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watched = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    except _Stopped as stopped:
        name = signal.Signals(stopped.number).name
        raise Interrupted(stopped.number, f"stopped by {name}; {consequence}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
