"""Python commands that start at once: forked from a process that has imported torch already, which takes seconds otherwise.

`Preloaded` is `subprocess.Popen`, but `python -m dlkit ...`, torchrun and scripts of this repository are forked, and what `--nproc`
starts is, too. This file run as a script is the process that has torch. For each command it forks a keeper, which
forks the command, waits for it and says how it ended.
"""

import faulthandler
import inspect
import os
import pickle
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from importlib import import_module
from multiprocessing.util import _exit_function as end_children
from pathlib import Path
from typing import Any, NoReturn

_Popen: Any = subprocess.Popen  # tests put the class below in its place
_SIGNATURE = inspect.signature(_Popen._execute_child)
ROOT = Path(__file__).resolve().parent.parent
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


class Preloaded(_Popen):
    """A process, forked by the one that has torch. A `preexec_fn` has to be one that pickle knows; `pass_fds` is not known."""

    _channel: socket.socket | None = None  # to the keeper of this process

    def _execute_child(self, *arguments: Any) -> None:
        values = _SIGNATURE.bind(self, *arguments).arguments
        asked = _Asked(values)
        if self._is_forked(asked.args):
            self.pid = self._start(asked)
            self._child_created = True
            self._close_pipe_fds(*(values[name] for name in _PIPES))
        else:
            super()._execute_child(*arguments)

    def _is_forked(self, args: list[str]) -> bool:
        if args[0] != sys.executable or len(args) < 2:
            return False
        if args[1] == "-m":
            return args[2].partition(".")[0] == "dlkit" or args[2] == "torch.distributed.run"
        return not args[1].startswith("-") and Path(args[1]).resolve().is_relative_to(ROOT)

    def _start(self, asked: "_Asked") -> int:
        self._channel, theirs = socket.socketpair()
        with theirs:
            SERVER.ask([theirs.fileno(), *asked.streams])
        self._channel.sendall(pickle.dumps(asked))
        return self._read_number()

    def _read_number(self) -> int:
        told = self._channel.recv(4)
        if not told:  # no number to be taken for one: signals to process 0 reach everybody
            raise RuntimeError("the process that has torch is gone")
        return int.from_bytes(told, signed=True)

    def poll(self) -> int | None:
        if self._channel is None:
            return super().poll()  # type: ignore[no-any-return]
        return self.wait() if self.returncode is None and self._has_ended(0) else self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self._channel is None:
            return super().wait(timeout)  # type: ignore[no-any-return]
        if self.returncode is None:
            if not self._has_ended(timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._read_number()
            self._channel.close()
        return self.returncode  # type: ignore[no-any-return]

    def _has_ended(self, timeout: float | None) -> bool:
        return bool(select.select([self._channel], [], [], timeout)[0])


class _Forked(Preloaded):
    """A fork of this process, for what dlkit starts before it uses torch; with threads of torch a fork would hang."""

    def _is_forked(self, args: list[str]) -> bool:
        return args[:3] == [sys.executable, "-m", "dlkit"]

    def _start(self, asked: "_Asked") -> int:
        return os.fork() or asked.become()


class _Asked:
    """What a process shall be like."""

    def __init__(self, values: dict[str, Any]) -> None:
        args = values["args"]
        self.args = [args] if isinstance(args, str | bytes) else list(map(os.fspath, args))
        self.env, self.cwd = dict(values["env"] or os.environ), os.fspath(values["cwd"] or Path.cwd())
        self.kept, self.prepare = tuple(values["pass_fds"]), values["preexec_fn"]
        self.session, self.group = values["start_new_session"], values["process_group"]
        given = [values[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        self.streams = [number if stream == -1 else stream for number, stream in enumerate(given)]

    def become(self) -> NoReturn:
        """Go on in this process as a new one would."""
        self._take_streams()
        for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.session:
            os.setsid()
        if self.group is not None and self.group >= 0:
            os.setpgid(0, self.group)
        os.chdir(self.cwd)
        os.environ.clear()
        os.environ.update(self.env)
        random.seed()
        faulthandler.enable(2)
        subprocess.Popen = _Forked  # type: ignore[misc]
        if self.prepare:
            self.prepare()
        _end(_run(self.args[1:]))

    def _take_streams(self) -> None:
        free = [os.dup(stream) for stream in self.streams]
        for number, stream in enumerate(free):
            os.dup2(stream, number)
        open_now = [int(path.name) for path in Path("/dev/fd").iterdir()]
        for number in set(open_now) - {0, 1, 2, *self.kept}:
            try:
                os.close(number)
            except OSError:  # the one that listed them
                continue
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115


def _run(args: list[str]) -> int:
    """Run what follows `python` on a command line; its exit code."""
    try:
        match args:
            case ["-m", module, *rest]:
                sys.argv, sys.path[0] = [module, *rest], str(Path.cwd())
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            case [script, *_]:
                sys.argv, sys.path[0] = args, str(Path(script).parent)
                runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    threading._shutdown()  # type: ignore[attr-defined]
    end_children()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


class Server:
    """The process that has torch. It starts when it is first asked for something, and ends with this one or by `close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, descriptors: list[int]) -> None:
        """Have it start a process with a channel, stdin, stdout and stderr."""
        if self._process is None:
            self._control, theirs = socket.socketpair()
            with theirs:
                self._process = _Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        socket.send_fds(self._control, [b"+"], descriptors)

    @property
    def pids(self) -> frozenset[int]:
        """Its number, if it has started."""
        return frozenset() if self._process is None else frozenset([self._process.pid])

    def close(self) -> None:
        if self._process is not None:
            # to close it is not enough: loader processes that are left have a copy
            self._control.shutdown(socket.SHUT_RDWR)
            self._control.close()
            self._process.wait()
            self._process = None


SERVER = Server()


def serve(control: socket.socket) -> None:
    """Fork a keeper for each command that is asked for, until nobody is left to ask."""
    for name in ("torch.distributed.fsdp", "torchvision", "dlkit.cli.app", "dlkit.core.training", "dlkit.quantize"):
        import_module(name)

    while (received := socket.recv_fds(control, 1, 8))[0]:
        descriptors = received[1]
        if os.fork() == 0:
            _keep(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(-1, os.WNOHANG)  # one that has ended meanwhile


def _keep(channel: int, *streams: int) -> NoReturn:
    """Start a command, and tell its number and, when it has ended, its exit code."""
    with open(channel, "rb", closefd=False) as asking:
        asked: _Asked = pickle.load(asking)
    asked.streams = list(streams)
    pid = os.fork() or asked.become()
    for stream in streams:
        os.close(stream)
    os.write(channel, pid.to_bytes(4))
    _, status = os.waitpid(pid, 0)
    os.write(channel, os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))
    os._exit(0)


if __name__ == "__main__":
    sys.path[:] = [*sys.path[1:], str(ROOT)]  # as for the tests
    from tests import preloaded as module  # the module that pickle finds again

    module.serve(socket.socket(fileno=int(sys.argv[1])))
