"""What a command has to know when it is one of several processes, without torch."""

import os
import signal
import threading
from contextlib import suppress

STORE = "DLKIT_STORE"  # the file where processes meet; core/distributed/joining.py reads it
LIFELINE = "DLKIT_LIFELINE"  # a pipe that closes when the process that started this one is gone


def is_one_of_several() -> bool:
    """Whether torchrun or `--nproc` started this process together with others."""
    return os.environ.get("WORLD_SIZE", "1") not in {"", "1"}


def count_processes() -> int:
    """How many of them there are, as far as the environment makes sense; joining.py refuses what makes none."""
    size = os.environ.get("WORLD_SIZE", "1")
    return max(1, int(size)) if size.isdecimal() else 1


def is_main_process() -> bool:
    """Whether this process talks to people."""
    return not is_one_of_several() or os.environ.get("RANK", "0") == "0"


def is_started_by_us() -> bool:
    """Whether `--nproc` started this process."""
    return STORE in os.environ


def hold_lifeline() -> None:
    """Stop as by SIGTERM, saving, when the process that started this one is gone, as after a SIGKILL."""
    if LIFELINE in os.environ:
        threading.Thread(target=_wait_for_end, args=[int(os.environ[LIFELINE])], daemon=True).start()


def _wait_for_end(lifeline: int) -> None:
    with suppress(OSError):
        if not os.read(lifeline, 1):
            os.kill(os.getpid(), signal.SIGTERM)
