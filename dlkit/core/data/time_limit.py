"""How long reading one sample may take: a data set that hangs, on a network say, is named instead of waited for."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dlkit.config import Data as DataSection
from dlkit.errors import DataError
from dlkit.quantities import parse_duration_s

_TICKS = 8


def limit_of(section: DataSection) -> float | None:
    """Returns `data.timeout` in seconds; None where reading may take any time."""
    return None if section.timeout is None else parse_duration_s(section.timeout)


def too_slow(name: str, limit_s: float | None) -> DataError:
    """Returns what to raise for a sample that takes too long."""
    return DataError(
        f"{name}: reading it has taken more than {limit_s:g} s, and still goes on. If that is right for these data, set "
        "data.timeout higher, or to null for no limit"
    )


@contextmanager
def time_limit(limit_s: float | None, name_of: Callable[[int], str], index: int) -> Iterator[None]:
    """Raise DataError in this thread when the block takes too long, where the system can interrupt it and this is the main thread.

    The time is counted in ticks, which a suspended process does not get.
    """
    can_interrupt = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if limit_s is None or not can_interrupt:
        yield
        return
    ticks = 0

    def tick(number: int, frame: FrameType | None) -> None:
        nonlocal ticks
        ticks += 1
        if ticks >= _TICKS:
            raise too_slow(name_of(index), limit_s)

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, limit_s / _TICKS, limit_s / _TICKS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
