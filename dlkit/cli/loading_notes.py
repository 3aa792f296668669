"""What a terminal says while packages load that take seconds: silence looks like a hang on a busy machine."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

SLOW = ("torch", "torchvision")  # what loads before anything else is drawn
CLEAR_LINE = "\r\x1b[2K"


def note_slow_imports() -> None:
    """Say on stderr what is loading while it is; the words are gone when it is done. Terminals only."""
    if sys.stderr.isatty():
        sys.meta_path.insert(0, SlowImports())


class SlowImports:
    """Finds nothing by itself: it puts words around the execution of slow packages."""

    def __init__(self) -> None:
        self._loading: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a slow package with words around it; None for all others, which are found as ever."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in SLOW else None
        if spec is None or spec.loader is None:
            return None
        loader, execute = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            with self._noted(fullname):
                execute(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        self._loading.append(name)
        self._show()
        try:
            yield
        finally:
            self._loading.pop()
            self._show()

    def _show(self) -> None:
        words = f"loading {self._loading[-1]} ..." if self._loading else ""
        with suppress(OSError, ValueError):
            sys.stderr.write(CLEAR_LINE + words)
            sys.stderr.flush()
