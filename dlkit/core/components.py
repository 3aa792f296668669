"""From a name in a config to the object: find it, check its options against the real signature, build it.

Names resolve through the registry, or through an import path that the user wrote (`package.module:attr`,
`/path/file.py:attr`). A model file never brings an import path here.
"""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from dlkit.config import LoadedConfig
from dlkit.errors import ConfigError, UsageError
from dlkit.registry import Entry, find_entry, spellings
from dlkit.suggestions import did_you_mean

Builder = Callable[..., Any]


class ComponentError(UsageError):
    """A component that cannot be found or built. `option` is the key at fault below the component, if one is."""

    def __init__(self, message: str, *, option: str | None = None) -> None:
        self.option = option
        super().__init__(message)


class UnknownOption(ComponentError):
    """An option that the component does not take."""


@contextmanager
def at_component(loaded: LoadedConfig, *path: str | int) -> Iterator[None]:
    """Give a ComponentError its place in the config: the option at fault below `path`, else the name there."""
    try:
        yield
    except ComponentError as error:
        at = "key" if isinstance(error, UnknownOption) else "value"
        raise loaded.error((*path, error.option or "name"), str(error), at=at) from None


@contextmanager
def at_section(loaded: LoadedConfig, *path: str | int) -> Iterator[None]:
    """Give a UsageError its place in the config: the key of the option at fault where one is known, else the section."""
    try:
        yield
    except ConfigError:
        raise
    except UsageError as error:
        option = error.option if isinstance(error, ComponentError) else None
        below = [int(part) if part.isdigit() else part for part in option.split(".")] if option else []
        raise loaded.error((*path, *below), str(error), at="value" if option in (None, "name") else "key") from error


def is_import_path(name: str) -> bool:
    """Returns whether a name is `package.module:attr` or `file.py:attr`."""
    return ":" in name


def resolve(kind: str, name: str) -> Builder:
    """Returns what a name of this kind stands for. Raises ComponentError with the names that come close."""
    return import_target(name if is_import_path(name) else known_entry(kind, name).target)


def known_entry(kind: str, name: str) -> Entry:
    """Returns the registry's entry of this name. Raises ComponentError with the names that come close."""
    if entry := find_entry(kind, name):
        return entry
    word = kind.replace("_", " ").removesuffix("es" if kind == "losses" else "s")
    raise ComponentError(
        f"no {word} {name!r}.{did_you_mean(name, spellings(kind))} See `dlkit list {kind}`; your own: package.module:attr"
    )


def import_target(target: str) -> Builder:
    """Import `package.module:attr` or `file.py:attr`; the current folder counts as the last place of sys.path."""
    module_name, _, attribute = target.rpartition(":")
    module = _load_file(Path(module_name)) if module_name.endswith(".py") else _import_module(module_name)
    try:
        found: Builder = getattr(module, attribute)
    except AttributeError:
        hint = did_you_mean(attribute, [name for name in vars(module) if not name.startswith("_")])
        raise ComponentError(f"{module_name} has no {attribute!r}.{hint}") from None
    if not callable(found):
        raise ComponentError(f"{target} is a {type(found).__name__}; a class or a function is needed")
    try:
        inspect.signature(found)
    except (ValueError, TypeError):
        raise ComponentError(
            f"{target} does not tell what it takes; a class or a function of Python is needed"
        ) from None
    return found


def _import_module(name: str) -> ModuleType:
    with _current_folder_importable():
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                raise ComponentError(f"no module {name!r} in the environment or in {Path.cwd()}") from None
            raise ComponentError(f"importing {name} failed: {error}") from error
        except Exception as error:
            raise ComponentError(f"importing {name} failed: {type(error).__name__}: {error}") from error


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise ComponentError(f"no file {path}")
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ComponentError(f"importing {path} failed: {type(error).__name__}: {error}") from error
    return module


def _module_name(path: Path) -> str:
    """A name of its own for each path, registered so that classes of the file can be pickled for loader processes."""
    return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


class OwnCode:
    """Code of the user's own that is loaded. Unpickled in another process, it makes the same modules importable there."""

    def __init__(self, files: tuple[Path, ...], folder: Path) -> None:
        self.files, self.folder = files, folder

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_own_code, (self.files, self.folder)


def own_code() -> OwnCode:
    """Returns the files that import paths of the config named, and the folder that counts as a place for modules."""
    loaded = [Path(found) for module in sys.modules.values() if (found := getattr(module, "__file__", None))]
    return OwnCode(tuple(path for path in loaded if _module_name(path) in sys.modules), Path.cwd())


def _restore_own_code(files: tuple[Path, ...], folder: Path) -> OwnCode:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for path in files:
        _load_file(path)
    return OwnCode(files, folder)


def check_options(
    builder: Builder, options: Mapping[str, Any], *, injected: Collection[str] = (), also_known: Collection[str] = ()
) -> None:
    """Bind options against the signature before anything is built.

    `injected` are the arguments that dlkit passes itself; `also_known` are the section's own keys, for suggestions.
    Raises ComponentError for an unknown or a missing option.
    """
    title = getattr(builder, "__name__", str(builder))
    parameters = inspect.signature(builder).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    open_names = [
        name
        for name, parameter in parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    free = [name for name in open_names if name not in injected]
    for option in options:
        if option not in free and not (takes_any and option not in injected):
            hint = did_you_mean(option, [*free, *also_known])
            raise UnknownOption(
                f"unknown key for {title}.{hint} It takes: {', '.join(free) or 'nothing'}", option=option
            )
    for name in free:
        if parameters[name].default is inspect.Parameter.empty and name not in options:
            raise ComponentError(f"{title} needs {name!r}")


def accepted(builder: Builder, candidates: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the candidate arguments that the builder takes by name."""
    parameters = inspect.signature(builder).parameters
    return {name: value for name, value in candidates.items() if name in parameters}
