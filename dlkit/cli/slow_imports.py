"""While packages load that take seconds: words on a terminal, where silence looks like a hang, and no time for what can wait."""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from dlkit.cli.compiler_on_demand import COMPILER, StandInLoader

SLOW = ("torch", "torchvision")  # what loads before anything else is drawn
CLEAR_LINE = "\r\x1b[2K"


@contextmanager
def quick_imports(*, are_told: bool) -> Iterator[None]:
    """Import slow packages without searching for garbage meanwhile, and torch's compiler only when something is compiled. Told,
    a terminal is shown on stderr what is loading while it is; the words are gone when it is done.
    """
    finder = SlowImports(are_told=are_told and sys.stderr.isatty())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        gc.unfreeze()  # triton, once timm or the compiler loads it, lists on stderr what Python does not collect at its end


class SlowImports:
    """Finds only the stand-in of the compiler by itself: it puts words around the execution of slow packages."""

    def __init__(self, *, are_told: bool) -> None:
        self._are_told = are_told
        self._loading: list[str] = []
        self._stands_in = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a slow package; None for all others, which are found as ever."""
        if fullname == COMPILER and not self._stands_in:
            self._stands_in = True  # and where the stand-in asks for the compiler, this is found as ever
            return ModuleSpec(fullname, StandInLoader())  # type: ignore[arg-type]
        spec = PathFinder.find_spec(fullname, path, target) if fullname in SLOW else None
        if spec is None or spec.loader is None:
            return None
        loader, execute = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            with self._noted(fullname), _uncollected():
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
            if self._are_told:
                sys.stderr.write(CLEAR_LINE + words)
                sys.stderr.flush()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Search for no garbage among objects that nearly all stay, nor among these ever after."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()
