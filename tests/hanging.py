"""A test that hangs fails: after a while the processes that it started are aborted, and if that does not help its own process.

Each then says where it was, where Python's `faulthandler` is on, as it is in tests and in what they fork.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 300.0  # the slowest takes 40 s on two quiet cores


@contextmanager
def watched(kept: Callable[[], frozenset[int]], limit_s: float = LIMIT_S) -> Iterator[None]:
    """Abort what this process has started when the block takes longer, but not `kept` and its children, who start others.

    Who waits for them then goes on. After a fifth of that time more this process is aborted; pytest-xdist then starts another.
    """
    timers = [threading.Timer(limit_s, _abort_descendants, [kept]), threading.Timer(1.2 * limit_s, os.abort)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _abort_descendants(kept: Callable[[], frozenset[int]]) -> None:
    parents, keep = _parents(), kept()
    for process in parents:
        if process not in keep and parents[process] not in keep and os.getpid() in _ancestors(process, parents):
            try:
                os.kill(process, signal.SIGABRT)
            except ProcessLookupError:  # gone meanwhile
                continue


def _ancestors(process: int, parents: dict[int, int]) -> Iterator[int]:
    while process := parents.get(process, 0):
        yield process


def _parents() -> dict[int, int]:
    """The parent of each process of the system."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
    return found
