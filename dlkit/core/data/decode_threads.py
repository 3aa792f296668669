"""Threads that decode files into memory, each file within a time limit."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from dlkit.core.data.time_limit import too_slow
from dlkit.core.data.worker_processes import IDLE, POLL_S, Patience
from dlkit.core.devices import num_cores
from dlkit.core.out_of_memory import is_out_of_memory, out_of_memory_at

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_THREADS = 8
_LOOKS = 8  # in a time limit
_END_S = 2.0


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], *, name_of: Callable[[Item], str], limit_s: float | None
) -> list[Result]:
    """Returns a function's results for all items, by threads, in order; Pillow lets go of the interpreter while it decodes.

    Raises what the function raised first, OutOfResource naming an item whose memory ran out, and DataError naming one that takes
    longer than `limit_s`. The thread of the latter cannot be interrupted: it is left behind, and does not keep the process from
    ending.
    """
    threads = _Threads(function, items, name_of)
    try:
        threads.wait(limit_s)
    finally:
        threads.end()
    return threads.results


class _Threads(Generic[Item, Result]):
    """Threads that take items from one queue. Each tells what it is at, and at its end what was raised."""

    def __init__(
        self, function: Callable[[Item], Result], items: Sequence[Item], name_of: Callable[[Item], str]
    ) -> None:
        self.results: list[Any] = [None] * len(items)
        self._function, self._items, self._name_of = function, items, name_of
        self._waiting = deque(range(len(items)))
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        count = min(_MOST_THREADS, num_cores(), len(items))
        self._now = [IDLE] * count
        self._late: int | None = None
        # threads of concurrent.futures are waited for when Python ends, however long they hang
        self._threads = [threading.Thread(target=self._work, args=[number], daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        raised = None
        try:
            while self._waiting:
                self._take(number)
        except BaseException as error:
            raised = error
        self._now[number] = IDLE
        self._ended.put(raised)

    def _take(self, number: int) -> None:
        try:
            position = self._waiting.popleft()
        except IndexError:  # another thread took the last one
            return
        self._now[number] = position
        item = self._items[position]
        try:
            self.results[position] = self._function(item)
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory_at(self._name_of(item), error) from error
            raise

    def wait(self, limit_s: float | None) -> None:
        """Return when all is done. Raises what a thread raised, or DataError at an item that takes too long."""
        patience = None if limit_s is None else Patience(lambda: [(now, now) for now in self._now], limit_s)
        look_s = POLL_S if limit_s is None else min(POLL_S, limit_s / _LOOKS)
        num_running = len(self._threads)
        while num_running:
            try:
                raised = self._ended.get(timeout=look_s)
            except Empty:
                if patience and (late := patience.wait_more(look_s)) is not None:
                    self._late = late
                    raise too_slow(self._name_of(self._items[late]), limit_s) from None
                continue
            num_running -= 1
            if raised:
                raise raised

    def end(self) -> None:
        """Let threads finish what they are at, all but one that is late: torch aborts a process that ends while it is at work."""
        self._waiting.clear()
        for thread, position in zip(self._threads, self._now, strict=True):
            if position != self._late or self._late is None:
                thread.join(_END_S / len(self._threads))
