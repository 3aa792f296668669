"""torch's compiler, imported when something is compiled.

Every optimizer of torch imports it when it is built and at each step, which takes as long as importing torch, only to say
that it is not to be traced. Until the compiler is there nobody traces.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


class CompilerOnDemand(ModuleType):
    """Stands for the compiler until anything but these two is asked of it."""

    def graph_break(self) -> None:
        """Do nothing: no graph is traced."""

    def disable(self, fn: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
        """Returns the function, which is kept from the compiler once that is there."""
        kept: list[Callable[..., Any]] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            compiler = sys.modules.get(COMPILER, self)
            if compiler is self:
                return fn(*args, **kwargs)
            if not kept:
                kept.append(compiler.disable(fn, *arguments, **options))
            return kept[0](*args, **kwargs)

        return call

    def __getattr__(self, name: str) -> Any:
        # what walks through all modules asks for other names of Python's own, and its import for the path of what it makes
        if (name.startswith("__") and name != "__path__") or COMPILER not in sys.modules:
            raise AttributeError(name)
        if sys.modules[COMPILER] is self:
            del sys.modules[COMPILER]
        return getattr(import_module(COMPILER), name)


class StandInLoader:
    """Puts the stand-in in the compiler's place."""

    def create_module(self, spec: object) -> ModuleType:
        """Returns the stand-in."""
        return CompilerOnDemand(COMPILER)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it is whole."""
