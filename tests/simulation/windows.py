"""What dlkit would find on Windows, as far as that can be simulated elsewhere: modules that are not there, attributes that `os` and
`signal` lack, folders that cannot be opened, and processes that cannot be forked.

Only dlkit's own imports are changed; Python, torch and the tests go on as they are. What this does not show: paths with
backslashes, files that cannot be replaced while they are open, other default encodings, and how the system itself behaves.
"""

import builtins
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "DLKIT_SIMULATE_WINDOWS"

GONE = frozenset({"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "posix", "syslog"})
LACKING = {
    "os": frozenset(
        {
            "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "confstr", "fork", "forkpty", "geteuid", "getloadavg", "getpgid",
            "getuid", "killpg", "mkfifo", "nice", "openpty", "pread", "pwrite", "register_at_fork", "sched_getaffinity",
            "setpgid", "setsid", "statvfs", "sysconf", "uname", "wait",
        }
    ),
    "signal": frozenset(
        {
            "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2", "SIGXFSZ",
            "SIG_BLOCK", "SIG_SETMASK", "SIG_UNBLOCK", "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait",
        }
    ),
    "subprocess": frozenset(),
}  # fmt: skip


def simulate() -> None:
    """Let all that dlkit imports from here on be as on Windows."""
    stand_ins = {
        name: _StandIn(module) for name, module in (("os", os), ("signal", signal), ("subprocess", subprocess))
    }
    really_import = builtins.__import__

    def import_(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0 and _is_ours(globals):
            if name in GONE:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in stand_ins:
                return stand_ins[name]
        return really_import(name, globals, locals, fromlist or (), level)

    builtins.__import__ = import_
    # processes that are started anew get what pickle carries, but from one that has imported torch, which takes seconds
    multiprocessing.context._concrete_contexts["spawn"] = multiprocessing.get_context("forkserver")  # type: ignore[attr-defined]
    multiprocessing.set_forkserver_preload(["dlkit.core.training"])


def _is_ours(importer: Mapping[str, Any] | None) -> bool:
    name = (importer or {}).get("__package__") or (importer or {}).get("__name__") or ""
    return str(name).partition(".")[0] == "dlkit"


class _StandIn(ModuleType):
    """A module without what Windows lacks. What is set or patched on it is set on the module itself."""

    def __init__(self, module: ModuleType) -> None:
        object.__setattr__(self, "_module", module)

    def __getattribute__(self, name: str) -> Any:
        module: ModuleType = object.__getattribute__(self, "_module")
        if name in LACKING[module.__name__]:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        special = _SPECIAL.get((module.__name__, name))
        return special or getattr(module, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(object.__getattribute__(self, "_module"), name, value)


def _open(path: Any, flags: int, *others: Any, **options: Any) -> int:
    if Path(path).is_dir():
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return os.open(path, flags, *others, **options)


class _Popen(subprocess.Popen):  # type: ignore[type-arg]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        for name in ("preexec_fn", "pass_fds"):
            if options.get(name):
                raise ValueError(f"{name} is not supported on Windows platforms")
        super().__init__(*arguments, **options)


_SPECIAL = {
    ("os", "open"): _open,
    ("subprocess", "Popen"): _Popen,
    ("signal", "SIGBREAK"): getattr(signal, "SIGTTIN", None),  # the same number, and nothing else sends it here
}
