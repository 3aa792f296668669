"""Signals that stop a command: handlers that are set for a while, and a stop that is reported as an error is.

Which signals there are depends on the system: Windows knows SIGBREAK and neither SIGHUP nor SIGUSR1.
"""

import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from dlkit.errors import Interrupted

REPEAT_S = 1.0  # the same wish again: a terminal that closes sends SIGHUP twice, and who passes Ctrl-C on doubles it
_RETRY_S, _PATIENCE_S = 0.05, 3.0


def _existing(*names: str) -> tuple[int, ...]:
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


STOPPING = _existing("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
SAVING = _existing("SIGUSR1")


@contextmanager
def handled_signals(numbers: Sequence[int], handle: Callable[[int], None], *, is_once: bool = False) -> Iterator[None]:
    """Call `handle` with the number of each of these signals that comes, and put back what handled them before.

    With `is_once` only for the first one. One that comes more than a moment later acts as it would have without us. A signal that
    is ignored stays ignored, as nohup wants it. Handlers can be set in the main thread only; elsewhere nothing is handled.
    """
    first: float | None = None

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not is_once or first is None:
            first = time.monotonic()
            handle(number)
        elif time.monotonic() - first >= REPEAT_S:
            _put_back(before)
            signal.raise_signal(number)

    before = _set(numbers, on_signal)
    try:
        yield
    finally:
        _put_back(before)


_Handler = Callable[[int, FrameType | None], None]


def _set(numbers: Sequence[int], handler: _Handler) -> dict[int, object]:
    """Set a handler where a signal is not ignored; what was there before, by signal."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    watched = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in watched}


def _put_back(before: dict[int, object]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)  # type: ignore[arg-type] # what signal.signal gave


class Stopped(BaseException):
    """A signal stops a task. Passes through every `except Exception` on its way out."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Stop:
    """Raises Stopped for the first signal that stops; for one that comes much later, what was there before acts.

    An exception is lost in a finalizer or a callback of the garbage collector, and in the middle of an import extension modules turn
    it into an ImportError, which some packages take to mean that something is not installed. So it waits for imports to end, and
    is raised again when it was lost: nothing refers to it any more, and the task still goes on.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.before: dict[int, object] = {}
        self._since = 0.0
        self._raised: Callable[[], Stopped | None] = lambda: None
        self._is_over = threading.Event()
        self._unsafe_outside = _unsafe_frames(sys._getframe())

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._since = number, now
            threading.Thread(target=self._insist, daemon=True).start()
        if self._raised() is not None:
            if now - self._since >= REPEAT_S:
                _put_back(self.before)
                signal.raise_signal(number)
        elif now - self._since >= _PATIENCE_S or _unsafe_frames(frame) <= self._unsafe_outside:
            raise self._stopped(self.number)

    def _stopped(self, number: int) -> Stopped:
        stopped = Stopped(number)
        self._raised, self._since = weakref.ref(stopped), time.monotonic()
        return stopped

    def _insist(self) -> None:
        assert self.number is not None
        while not self._is_over.wait(_RETRY_S):
            if self._raised() is None:
                signal.raise_signal(self.number)

    def end(self) -> None:
        """Put back what handled signals before."""
        self._is_over.set()
        _put_back(self.before)


def _unsafe_frames(frame: FrameType | None) -> int:
    """How many imports and finalizers are under way; what is raised in these is lost or becomes something else."""
    count = 0
    while frame is not None:
        code, frame = frame.f_code, frame.f_back
        count += code.co_filename.startswith("<frozen importlib") or code.co_name == "__del__"
    return count


@contextmanager
def stopped_by_signals(consequence: str | Callable[[], str] | None = None) -> Iterator[None]:
    """Turn a signal that stops into Interrupted, after everything on the way was cleaned up.

    `consequence` ends its message: "nothing was written". Without it, a block within another leaves signals to that one.
    """
    if consequence is None and any(isinstance(signal.getsignal(number), _Stop) for number in STOPPING):
        yield
        return
    stop = _Stop()
    stop.before = _set(STOPPING, stop)
    try:
        yield
    except BaseException:
        if stop.number is None:
            raise
        words = consequence() if callable(consequence) else consequence
        name = signal.Signals(stop.number).name
        raise Interrupted(stop.number, f"stopped by {name}" + (f"; {words}" if words else "")) from None
    finally:
        stop.end()


@contextmanager
def stops_ignored() -> Iterator[None]:
    """The last moments of a task that is ending anyway, which signals that stop would only leave half done."""
    with handled_signals(STOPPING, lambda number: None):
        yield


@contextmanager
def stops_held() -> Iterator[None]:
    """Let signals wait until the end. Processes that are started meanwhile begin with them blocked, where the system can do that."""
    came: list[int] = []
    can_block = hasattr(signal, "pthread_sigmask")
    try:
        with handled_signals((*STOPPING, *SAVING), came.append):
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {*STOPPING, *SAVING}) if can_block else set()
            try:
                yield
            finally:
                if can_block:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        for number in came:
            signal.raise_signal(number)


def leave_stops_to_parent() -> None:
    """Ignore signals in a process that ends when the one that started it says so, as those to a whole group reach both."""
    for number in (*STOPPING, *SAVING):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOPPING, *SAVING})
