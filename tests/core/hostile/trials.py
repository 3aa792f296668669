"""Commands on hostile files, in forked children after one import of torch, with less memory and time than such a file may take.

A child ends at a file that kills it, and the next one goes on behind it. What is not allowed: exit code 1 and codes that are not
documented, a traceback, code of the file's own, more than 1 GB on top of the import, more than 5 s of work.
"""

import io
import json
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torchvision  # noqa: F401 (loads libraries, which is no code of a file)
from originals import run_command

platform.processor()  # starts a program once, and remembers the answer

MOST_BYTES = 2**30
MOST_SECONDS = 5.0
HANGS_AFTER_S = 120  # of the clock; on a busy machine five seconds of work take longer
FILES_PER_CHILD = 40
RUNS_CODE = {
    "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "socket.connect", "os.startfile",
    "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlopen", "webbrowser.open",
}  # fmt: skip
OK_CODES = {0, 2, 3, 4, 5}


@dataclass(frozen=True)
class Trial:
    """A hostile file: its name, what writes it, and the commands that read it, with `{file}` and `{out}` in them."""

    name: str
    ending: str
    write: Callable[[Path], None]
    commands: tuple[tuple[str, ...], ...]
    also_allowed: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Result:
    """What came of a trial. `faults` is empty where all is as promised."""

    name: str
    codes: list[int]
    seconds: float
    megabytes: float
    faults: list[str] = field(default_factory=list)
    words: str = ""


def run_trials(trials: Sequence[Trial], folder: Path) -> Iterator[Result]:
    """The results of all trials, in their order."""
    done = 0
    while done < len(trials):
        batch = trials[done : done + FILES_PER_CHILD]
        results, end = _run_in_child(batch, folder)
        yield from results
        done += len(results)
        if len(results) < len(batch):
            yield Result(batch[len(results)].name, [], 0.0, 0.0, [f"ended the process: {end}"])
            done += 1


def _run_in_child(batch: Sequence[Trial], folder: Path) -> tuple[list[Result], str]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _work(batch, folder, writer)
        except BaseException as error:
            sys.__stderr__.write(f"the harness itself failed: {type(error).__name__}: {error}\n")  # type: ignore[union-attr]
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as lines:
        results = [Result(**json.loads(line)) for line in lines]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return results, signal.Signals(-status).name if status < 0 else f"exit {status}"


def _work(batch: Sequence[Trial], folder: Path, writer: int) -> None:
    found: list[str] = []
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES, size + MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder)
    sys.addaudithook(lambda event, arguments: _watch(event, arguments, folder, found))
    for trial in batch:
        result = _run_trial(trial, folder, found)
        os.write(writer, (json.dumps(result.__dict__) + "\n").encode())


def _watch(event: str, arguments: tuple[Any, ...], folder: Path, found: list[str]) -> None:
    if event in RUNS_CODE and str(folder) not in str(arguments[:1]) and "libnvidia" not in str(arguments):
        found.append(f"{event}{arguments!r:.200}")
    elif event == "open" and _writes(arguments):
        path = os.path.join(folder, os.fsdecode(arguments[0]))  # noqa: PTH118 (an object for each file that is opened)
        if not path.startswith((str(folder), "/dev/null")):
            found.append(f"wrote to {path!r:.200}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    return not isinstance(path, int) and (
        flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) != 0 or bool(set(mode or "") & set("wax+"))
    )


def _run_trial(trial: Trial, folder: Path, found: list[str]) -> Result:
    path, out = folder / f"file{trial.ending}", folder / "out"
    trial.write(path)
    found.clear()
    codes: list[int] = []
    texts = io.StringIO()
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for command in trial.commands:
        signal.alarm(HANGS_AFTER_S)
        with redirect_stdout(texts), redirect_stderr(texts):
            codes.append(run_command(*(part.format(file=path, out=out, folder=folder) for part in command)))
        signal.alarm(0)
    seconds = time.process_time() - begun
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    faults = _faults(trial, codes, texts.getvalue(), seconds) + list(found)
    _clear(out)
    path.unlink(missing_ok=True)
    return Result(
        trial.name, codes, round(seconds, 3), round(grown, 1), faults, texts.getvalue()[-600:] if faults else ""
    )


def _faults(trial: Trial, codes: Sequence[int], text: str, seconds: float) -> list[str]:
    faults = [f"exit {code}" for code in codes if code not in OK_CODES | trial.also_allowed]
    if "Traceback (most recent call last)" in text:
        faults.append("traceback")
    if seconds > MOST_SECONDS * len(codes):
        faults.append(f"{seconds:.1f} s")
    return faults


def _clear(out: Path) -> None:
    for path in sorted(out.parent.glob("out*"), reverse=True):
        if path.is_dir():
            for inner in sorted(path.rglob("*"), reverse=True):
                inner.rmdir() if inner.is_dir() and not inner.is_symlink() else inner.unlink()
            path.rmdir()
        else:
            path.unlink()
