"""stdout and stderr that a command outlives: closed from the start, or a terminal that goes away meanwhile."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

_GONE = {errno.EIO, errno.ENXIO, errno.EBADF}  # what writing to a terminal says that is no longer there


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let a command talk as long as somebody listens. At the end what is left is flushed, and failing at that is no news."""
    _open_closed_streams()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Lasting(stream)) for stream in (sys.stdout, sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _let_go(stream)


def _open_closed_streams() -> None:
    """Let a program that was started with `>&-` or `2>&-` talk to nobody, where Python would leave None. Names of files that are
    not Unicode are shown with escapes.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Lasting:
    """A stream that swallows what is written once its terminal is gone. A full disk and a closed pipe still raise."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if anybody is there."""
        with _nobody_there():
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if anybody is there."""
        with _nobody_there():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _nobody_there() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _let_go(stream: TextIO) -> None:
    """Flush what is left; Python would end with 120 where that fails, but there is nobody left to tell."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
