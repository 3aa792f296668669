"""The way in: `dlkit`, `python -m dlkit`, and what `torchrun -m dlkit` starts.

Signals are heeded before anything that takes time is imported. Until a task takes over, nothing is made that would have to be
cleaned up, so a signal ends the process on the spot: an exception could come out of the middle of an import as something else.
"""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line and exit."""
    _heed_signals()
    from dlkit.cli.app import main as run_command
    from dlkit.cli.thread_waiting import limit_spinning

    limit_spinning()
    try:
        run_command()
    except SystemExit as end:
        _end_with(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    _end_with(0)


def _heed_signals() -> None:
    """Leave at signals that stop, and go on after one that asks for a checkpoint, while no task answers them.

    Ctrl-C stops this process also where its parent ignores it, as shells do for their background; a SIGHUP that is ignored
    stays so, as nohup wants it.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and (name == "SIGINT" or signal.getsignal(number) is not signal.SIG_IGN):
            signal.signal(number, _leave)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, _go_on)


def _leave(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
    finally:
        os._exit(128 + number)


def _go_on(number: int, frame: FrameType | None) -> None:
    """Do nothing; the system would end the process."""


def _end_with(code: int) -> None:
    """All is done and told, so a signal while Python takes itself down no longer changes how this ends."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(code)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is _leave:
            signal.signal(number, leave)


if __name__ == "__main__":
    main()
