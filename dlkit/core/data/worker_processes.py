"""Loader processes: how they begin and end, what each of them is reading, and when one has stopped answering.

They ignore the signals that stop a run, which reach them too where a whole group is meant; they end when the run does.
"""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import Array, c_int64
from typing import Any

from torch.utils.data import DataLoader, get_worker_info

from dlkit.signals import leave_stops_to_parent, stops_held

POLL_S = 1.0  # between two looks at processes that keep the run waiting
IDLE = -1


def start_method() -> str:
    """Forked on Linux, which takes no time; started anew elsewhere, where there is no fork or it is unsafe."""
    return "fork" if sys.platform == "linux" and hasattr(os, "fork") else "spawn"


class ReadingNow:
    """Which position each loader process is reading, in memory that they share with the run. Goes along when they start."""

    def __init__(self, num_workers: int) -> None:
        # per process: the position, or that it is reading none, and how many it has begun
        self._cells: Array[c_int64] = multiprocessing.get_context(start_method()).RawArray(
            c_int64, [IDLE, 0] * num_workers
        )

    @contextmanager
    def noted(self, position: int) -> Iterator[None]:
        """Called in a loader process, around the reading of a sample."""
        worker = get_worker_info()
        if worker is None:
            yield
            return
        cell = 2 * worker.id
        self._cells[cell + 1] += 1
        self._cells[cell] = position
        try:
            yield
        finally:
            self._cells[cell] = IDLE

    def snapshot(self) -> list[tuple[int, int]]:
        """Position and count of each process."""
        return list(zip(self._cells[::2], self._cells[1::2], strict=True))


class Patience:
    """Adds up how long a run has waited while a loader process, or a thread, was at the same sample.

    Only time that the run itself was awake counts, so that being suspended makes nobody late.
    """

    def __init__(self, snapshot: Callable[[], list[tuple[int, int]]], limit_s: float) -> None:
        """`snapshot` tells of each reader its position and a number that is another for each sample."""
        self._snapshot, self._limit_s = snapshot, limit_s
        self._seen = snapshot()
        self._waited_s = [0.0] * len(self._seen)

    def wait_more(self, seconds: float) -> int | None:
        """Take in that the run has waited again; the position of a sample that takes too long, if there is one."""
        seen = self._snapshot()
        for worker, (before, now) in enumerate(zip(self._seen, seen, strict=True)):
            self._waited_s[worker] = self._waited_s[worker] + seconds if before == now else 0.0
        self._seen = seen
        late = [seen[worker][0] for worker, waited_s in enumerate(self._waited_s) if waited_s >= self._limit_s]
        return next((position for position in late if position != IDLE), None)


def begin_workers(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the processes of a loader and return its iterator.

    Signals wait until the processes can ignore them. torch's handler for the end of a process is taken out again: it raises
    wherever the run happens to be, in the middle of an update even, while a run that waits for a batch finds out by itself.
    """
    is_main = threading.current_thread() is threading.main_thread()
    child = getattr(signal, "SIGCHLD", None)
    before = signal.getsignal(child) if child is not None else None
    with stops_held(), warnings.catch_warnings():
        # threads of ours, such as the one that touches the lock of the run folder, hold nothing that a loader process needs
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        iterator = iter(loader)
    if child is not None and before is not None and is_main:
        signal.signal(child, before)
    for worker in _processes(iterator):
        # what torch and multiprocessing do to a process that does not end by itself; it ignores SIGTERM
        worker.terminate = worker.kill
        worker._popen.terminate = worker._popen.kill
    return iterator


def enter_worker(worker_id: int) -> None:
    """What a loader process does first."""
    leave_stops_to_parent()


def end_workers(iterator: Iterator[Any]) -> None:
    """End the processes of a loader's iterator now, whatever they are doing."""
    for worker in _processes(iterator):
        worker.kill()
    shutdown = getattr(iterator, "_shutdown_workers", None)
    if shutdown is not None:
        with suppress(RuntimeError):
            shutdown()


def _processes(iterator: Iterator[Any]) -> list[Any]:
    return list(getattr(iterator, "_workers", ()))
