"""`--nproc N`: starts N processes of the same command on this machine, and ends them together.

Each process is this command line again, with the variables that torchrun would set, so that both ways of starting share all
that follows. They meet through a file, so no port can be in use. Rank 0 has the screen; what the others print is kept, and
shown if they end without a word. This process loads no torch: it waits, passes signals on, and tells why a run ended.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dlkit.cli.processes.environment import LIFELINE, STORE, is_one_of_several, is_started_by_us
from dlkit.cli.processes.failure_notes import ERROR_FILE, FailureNote, read_failure
from dlkit.errors import UsageError
from dlkit.signals import SAVING, STOPPING, handled_signals

GRACE_S = (
    15.0  # for the others to end by themselves once one has failed; a collective fails at once when a partner is gone
)
POLL_S = 0.05
_IS_POSIX = hasattr(os, "fork")


@dataclass
class Worker:
    """One of the processes. `ended` is the time of the monotonic clock at which it was seen to have ended; `is_put_down` says
    that it did not end by itself after another one had failed.
    """

    rank: int
    process: "subprocess.Popen[bytes]"
    folder: Path
    ended: float | None = None
    is_put_down: bool = False

    @property
    def note(self) -> FailureNote | None:
        """What it said of its failure."""
        return read_failure(self.folder / f"error-{self.rank}.json")

    @property
    def printed(self) -> str:
        """What it printed, where that went nowhere."""
        path = self.folder / f"output-{self.rank}.txt"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def has_to_launch(nproc: int | None) -> bool:
    """Whether this process has to start others, and is none of them."""
    return nproc is not None and not is_started_by_us() and (nproc > 1 or is_one_of_several())


def launch(nproc: int, arguments: Sequence[str]) -> None:
    """Run `dlkit ARGUMENTS` in so many processes and exit as they do.

    Raises UsageError within torchrun, which has started the processes already.
    """
    if is_one_of_several():
        raise UsageError(
            "--nproc starts processes, and so does torchrun: leave --nproc away under torchrun (its own is --nproc-per-node)"
        )
    with tempfile.TemporaryDirectory(prefix="dlkit-") as folder, ExitStack() as stack:
        lifeline, kept = os.pipe()
        workers: list[Worker] = []
        came: list[int] = []

        def pass_on(number: int) -> None:
            came.append(number)
            if len(workers) == nproc:
                _signal(workers, number)

        with handled_signals((*STOPPING, *SAVING), pass_on):
            for rank in range(nproc):
                workers.append(_start(rank, nproc, arguments, Path(folder), lifeline, stack))
            os.close(lifeline)
            for number in tuple(came):
                _signal(workers, number)
            _wait(workers)
        os.close(kept)
        sys.exit(_tell(workers, [number for number in came if number in STOPPING]))


def _start(rank: int, size: int, arguments: Sequence[str], folder: Path, lifeline: int, stack: ExitStack) -> Worker:
    environment = os.environ | _variables(rank, size, folder)
    environment |= {LIFELINE: str(lifeline)} if _IS_POSIX else {}
    output: BinaryIO | None = None
    if rank > 0:
        output = stack.enter_context((folder / f"output-{rank}.txt").open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dlkit", *arguments],
        env=environment,
        stdout=output,
        stderr=output,
        stdin=None if rank == 0 else subprocess.DEVNULL,
        **_apart(lifeline),
    )
    return Worker(rank, process, folder)


def _apart(lifeline: int) -> dict[str, Any]:
    """A group of its own for a process, so that a Ctrl-C reaches this one only, which passes it on once."""
    if _IS_POSIX:
        return {"pass_fds": [lifeline], "process_group": 0}
    return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}


def _variables(rank: int, size: int, folder: Path) -> dict[str, str]:
    variables = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        STORE: str(folder / "store"),
        ERROR_FILE: str(folder / f"error-{rank}.json"),
    }
    if sys.platform == "linux":
        # a machine whose own name leads nowhere would make gloo fail; all processes are on this one
        variables["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return variables


def _signal(workers: Sequence[Worker], number: int) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            # Windows passes SIGBREAK alone to another group
            worker.process.send_signal(number if _IS_POSIX else getattr(signal, "CTRL_BREAK_EVENT", number))


def _wait(workers: Sequence[Worker]) -> None:
    """Until all have ended. When one fails, the others get some time to see it, are asked to end, and are ended."""
    steps: list[tuple[float, Callable[[subprocess.Popen[bytes]], None]]] = []
    while any(worker.process.poll() is None for worker in workers):
        now = time.monotonic()
        for worker in workers:
            if worker.ended is None and worker.process.poll() is not None:
                worker.ended = now
        if not steps and any(worker.process.returncode not in (None, 0) for worker in workers):
            steps = [(now + GRACE_S, subprocess.Popen.terminate), (now + 1.5 * GRACE_S, subprocess.Popen.kill)]
        if steps and now >= steps[0][0]:
            _, put_down = steps.pop(0)
            for worker in workers:
                if worker.process.poll() is None:
                    worker.is_put_down = True
                    put_down(worker.process)
        time.sleep(POLL_S)


def _tell(workers: Sequence[Worker], asked: Sequence[int]) -> int:
    """Show why the run ended, if it failed; the exit code. `asked` are the signals to stop that were passed on."""
    failed = sorted((w for w in workers if w.process.returncode), key=lambda w: (w.ended or float("inf"), w.rank))
    if not failed:
        return 0
    by_themselves = [worker for worker in failed if not worker.is_put_down] or failed
    # who only lost the others has nothing to tell as long as somebody else has
    causes = [worker for worker in by_themselves if not (worker.note and worker.note.is_lost)] or by_themselves
    cause = _main_if_same(causes)
    if cause.note:
        _show(cause.note, f"process {cause.rank} of {len(workers)}" if cause.rank else None)
        return cause.note.exit_code
    if asked and cause.process.returncode in {-asked[0], 128 + asked[0]}:
        _show(
            FailureNote(f"stopped by {signal.Signals(asked[0]).name}", 128 + asked[0], is_lost=False, is_quiet=True),
            None,
        )
        return 128 + asked[0]
    _show_death(cause, len(workers))
    return 1 if cause.process.returncode < 0 else cause.process.returncode


def _main_if_same(causes: Sequence[Worker]) -> Worker:
    """The process that failed first, or rank 0 where it tells the same."""
    first, main = causes[0].note, next((worker.note for worker in causes if worker.rank == 0), None)
    if first and main and (main.text == first.text or (main.is_quiet and first.is_quiet)):
        return next(worker for worker in causes if worker.rank == 0)
    return causes[0]


def _show(note: FailureNote, who: str | None) -> None:
    from dlkit.cli.console import show_error, show_lines, stderr_console

    if note.is_quiet:
        show_lines([note.text], console=stderr_console())
    else:
        show_error(f"{who}: {note.text}" if who else note.text)


def _show_death(worker: Worker, size: int) -> None:
    from dlkit.cli.console import show_error

    code = worker.process.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = "; often memory ran out" if how.endswith("SIGKILL") else ""
    printed = "\n".join(worker.printed.strip().splitlines()[-20:])
    text = f"process {worker.rank} of {size} {how}{hint}. What was saved is intact; --resume goes on from there"
    show_error(f"{text}\n{printed}" if printed else text)
