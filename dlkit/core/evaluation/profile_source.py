"""From what a person names to a model on the meta device: a torchvision name or an import path."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from dlkit.core.components import ComponentError, import_target, is_import_path, resolve
from dlkit.core.evaluation.profile import InputSpec, ProfileError

# torchvision's classifiers that were trained on another size than 224
_SIZES = {"inception_v3": 299, "googlenet": 224}


@dataclass(frozen=True)
class Source:
    """A model on the meta device, and the input that it is made for, where that is known."""

    name: str
    model: nn.Module
    inputs: tuple[InputSpec, ...] | None


class _Allocating(TorchFunctionMode):
    """New parameters lie on the meta device; torch.arange and torch.tensor do not, builders compute with them."""

    FUNCTIONS = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass the call on, on the meta device where it makes a tensor."""
        kwargs = dict(kwargs or {})
        if func in self.FUNCTIONS:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def without_memory() -> AbstractContextManager[Any]:
    """While this is entered, models are built on the meta device."""
    return _Allocating()


# readers of files by suffix, such as ".pt" or ".yaml"; each gives the model on the meta device and its input
FILE_READERS: dict[str, Callable[[Path], Source]] = {}


def model_from(text: str, *, options: dict[str, Any] | None = None) -> Source:
    """The model that `text` names: a registry name such as resnet18, or `package.module:Net`, `./file.py:Net`.

    Raises ComponentError for an unknown name and ProfileError when it cannot be built.
    """
    suffix = Path(text).suffix
    if suffix in FILE_READERS:
        return FILE_READERS[suffix](Path(text))
    builder = import_target(text) if is_import_path(text) else _registered(text)
    try:
        with without_memory():
            built = builder(**_quiet(text), **(options or {}))
            model = built.to("meta") if isinstance(built, nn.Module) else None
    except ComponentError:
        raise
    except Exception as error:
        raise ProfileError(f"{text} cannot be built: {type(error).__name__}: {error}") from error
    if model is None:
        raise ProfileError(f"{text} gives a {type(built).__name__}; a torch.nn.Module is needed")
    return Source(text, model, _known_input(text))


def _registered(name: str) -> Callable[..., Any]:
    """torchvision's own names come first, also those that are no classifiers; then dlkit's registry."""
    if name.lower() in torchvision.models.list_models():
        builder: Callable[..., Any] = torchvision.models.get_model_builder(name)
        return builder
    return resolve("models", name)


def _quiet(text: str) -> dict[str, Any]:
    # torchvision warns that these two will change how they initialize
    return {"init_weights": False} if text.lower() in ("inception_v3", "googlenet") else {}


def _known_input(text: str) -> tuple[InputSpec, ...] | None:
    if is_import_path(text):
        return None
    size = _SIZES.get(text.lower(), 224)
    return (InputSpec((3, size, size)),)
