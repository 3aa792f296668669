"""Doors that are opened on first use: of a large wing most commands need a part."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_door(wing: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """Returns the `__getattr__` and the `__all__` of a wing that hands on names, separated by blanks, of its modules.

    No name may be that of a module: an imported module takes its place.
    """
    module_of = {name: module for module, names in modules.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {wing!r} has no attribute {name!r}")
        return getattr(import_module(f"{wing}.{module_of[name]}"), name)

    return find, list(module_of)
