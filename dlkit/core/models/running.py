"""Which modules of a network are running, followed by hooks.

torch.utils.module_tracker keeps the names of the running modules as a set: it does not tell which is innermost or had ended
last, sees no inputs and outputs, and names a module that stands in two places by the second one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

Leave = Callable[[str, nn.Module, Any], None]


@dataclass(frozen=True)
class RunningModule:
    """A module that was called and has not returned: its name in the network and its positional inputs."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]


class RunningModules:
    """The modules that are running, outermost first, and the name of the one that ended last.

    After a failure, those stay that it passed through. `on_leave` is called with a module's name, itself and its output
    when it ends, after it was taken off.
    """

    def __init__(self, on_leave: Leave | None = None) -> None:
        self.stack: list[RunningModule] = []
        self.last = ""
        self._on_leave = on_leave

    @property
    def innermost(self) -> RunningModule | None:
        """The one that was called last of those that are running."""
        return self.stack[-1] if self.stack else None

    @contextmanager
    def followed(self, network: nn.Module) -> Iterator["RunningModules"]:
        """Follow a network while it runs."""
        handles = []
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(self._enter(name)))
            handles.append(module.register_forward_hook(self._leave(name)))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.stack.append(RunningModule(name, module, inputs))

        return hook

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.stack.pop()
            self.last = name
            if self._on_leave is not None:
                self._on_leave(name, module, output)

        return hook
