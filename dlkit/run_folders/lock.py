"""The lock of a run folder: one process at a time, on this machine and on others that share the file system.

Two locks of the library filelock guard it. The system's own is exact and ends with its process, but says nothing across machines
where the file system does not pass it on. The second is a file that names host and process and is touched every few seconds; its
holder counts as gone when this machine has watched it untouched for LEASE_S, whatever the clocks of both say.
"""

import errno
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, SoftFileLease, Timeout

from dlkit.errors import OutputError
from dlkit.events import Emit, Note
from dlkit.run_folders.layout import LOCK_FILE

LEASE_S = 30.0
_LEASE = ".lease"
_POLL_S = 0.5
_PROBED_S = 0.25  # who lists runs holds the lock of the system for a moment
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class RunLock:
    """Holds a run folder until it is released. Raises OutputError when another process has it.

    All who want a folder must agree on `lease_s`.
    """

    def __init__(self, folder: Path, emit: Emit, *, lease_s: float = LEASE_S) -> None:
        self._folder, self._lease_s = folder, lease_s
        self._of_system = FileLock(folder / LOCK_FILE, thread_local=False, preserve_lock_file=True)
        self._lease = SoftFileLease(folder / _LEASE, lease_duration=lease_s, thread_local=False)
        try:
            self._take_that_of_system()
            self._take_lease(emit)
        except BaseException:
            self.release()
            raise

    def _take_that_of_system(self) -> None:
        try:
            self._of_system.acquire(timeout=_PROBED_S, poll_interval=_PROBED_S / 5)
        except Timeout:
            raise self._in_use() from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            # a file system without such locks leaves it to the lease

    def _take_lease(self, emit: Emit) -> None:
        with suppress(Timeout):
            self._lease.acquire(blocking=False)
            return
        # here its holder would be known to be gone, as the lock of the system was free; on another machine it may live
        who, first = self._holder(), self._touched()
        emit(
            Note(
                f"{self._folder} was in use by {who}: waiting up to {self._lease_s:.0f} s to see whether that run is alive"
            )
        )
        try:
            self._lease.acquire(
                timeout=2 * self._lease_s, poll_interval=_POLL_S, cancel_check=lambda: self._touched() != first
            )
        except Timeout:
            raise self._in_use() from None

    def _touched(self) -> float:
        """When the lease was last touched, by the clock of the file system; opened, as others' changes are seen late otherwise."""
        with suppress(OSError), (self._folder / _LEASE).open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
        return 0

    def _holder(self) -> str:
        owner = self._lease.owner
        return f"pid {owner.pid} on {owner.hostname}" if owner else "unknown"

    def _in_use(self) -> OutputError:
        return OutputError(f"{self._folder} is in use by another run ({self._holder()})")

    def check(self) -> None:
        """Raise OutputError when another machine has taken the folder over, as it may when this one was suspended or cut off.

        A lease that cannot be read just now says nothing; one that is gone does, as the other may have come and ended.
        """
        owner = self._lease.owner
        if owner is not None and owner.token == self._lease.token:
            return
        with suppress(OSError):
            if owner is None and (self._folder / _LEASE).exists():
                return
            raise OutputError(
                f"{self._folder} was taken over by another run ({self._holder()}) while this one did not answer; "
                "nothing more is written by this one"
            )

    def release(self) -> None:
        """Let others have the folder."""
        self._lease.release()
        self._of_system.release()


def is_in_use(folder: Path) -> bool:
    """Whether a process has a run folder, as far as can be told at once and without writing: exactly for those of this machine, by
    when the lease was last touched for those of others.
    """
    is_locked = _is_locked(folder / LOCK_FILE)
    if is_locked:
        return True
    lease = folder / _LEASE
    owner = SoftFileLease(lease, lease_duration=LEASE_S).owner if lease.exists() else None
    is_of_here = owner is not None and owner.hostname.startswith(socket.gethostname())
    if owner is None or (is_of_here and is_locked is not None):
        return False
    with suppress(OSError):
        return time.time() - lease.stat().st_mtime < LEASE_S
    return False


def _is_locked(path: Path) -> bool | None:
    """Whether a process on this machine has the lock of the system; None where the file system has none."""
    if not path.exists():
        return False
    lock = FileLock(path, thread_local=False, preserve_lock_file=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:
        return None
    lock.release()
    return False
