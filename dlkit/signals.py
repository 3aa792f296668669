"""Signals that stop a command: handlers that are set for a while, and a stop that is reported as an error is."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from dlkit.errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handled_signals(numbers: Sequence[int], handle: Callable[[int], None], *, is_once: bool = False) -> Iterator[None]:
    """Call `handle` with the number of each of these signals that comes, and put back what handled them before.

    With `is_once` that is put back as soon as the first one comes, so that the second acts as it would have without us. A
    signal that is ignored stays ignored, as nohup wants it. Handlers can be set in the main thread only; elsewhere nothing
    is handled.
    """

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if is_once:
            put_back()
        handle(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watched = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in watched}
    try:
        yield
    finally:
        put_back()


def heed_interrupts() -> None:
    """Let Ctrl-C and SIGINT stop this process also where its parent ignores them, as shells do for their background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Stopped(BaseException):
    """Passes through every `except Exception` on its way out."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def stopped_by_signals(consequence: str) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into Interrupted, after everything on the way was cleaned up.

    `consequence` ends its message: "nothing was written".
    """

    def stop(number: int) -> None:
        raise _Stopped(number)

    try:
        with handled_signals(STOPPING, stop, is_once=True):
            yield
    except _Stopped as stopped:
        name = signal.Signals(stopped.number).name
        raise Interrupted(stopped.number, f"stopped by {name}; {consequence}") from None
