"""From a config's model section to an architecture, and from an architecture to a network."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from dlkit.config import Model as ModelSection
from dlkit.core.components import (
    Builder,
    ComponentError,
    accepted,
    check_options,
    import_target,
    is_import_path,
    resolve,
)
from dlkit.core.models.arch import Arch, plain
from dlkit.core.models.meta import AllocateNothing
from dlkit.core.models.torchvision import (
    PRETRAINED_OPTIONS,
    build_torchvision,
    check_torchvision_options,
    is_published_name,
    plan_torchvision_size,
)
from dlkit.registry import INJECTED, Entry, find_entry
from dlkit.shapes import size_text

_GIVEN_TO_USERS = frozenset({"num_classes", "in_channels", "input_size"})


def plan_arch(model: ModelSection, *, input_size: tuple[int, ...], num_outputs: int) -> Arch:
    """The architecture that a config means, for samples of `input_size` ((C, H, W), (T, F) or (F,)), with every auto
    filled.

    A user's own class is imported for its signature. Raises ComponentError for unknown names and options, and for a
    model that does not suit the samples.
    """
    num_classes = num_outputs if model.num_classes == "auto" else model.num_classes
    if num_classes < num_outputs:
        raise ComponentError(
            f"the data has {num_outputs} classes or targets, num_classes is {num_classes}", option="num_classes"
        )
    in_channels = _count_channels(input_size)
    if model.in_channels not in ("auto", in_channels):
        raise ComponentError(
            f"the data has {in_channels} channels, in_channels is {model.in_channels}", option="in_channels"
        )
    given = {"num_classes": num_classes, "in_channels": in_channels, "input_size": list(input_size)}
    options = _plain_options(model.options)
    if is_import_path(model.name):
        return _plan_user(model, options, given)
    resolve("models", model.name)
    entry = find_entry("models", model.name)
    assert entry is not None
    if entry.is_ours:
        return _plan_ours(model, entry, options, given)
    return _plan_torchvision(model, entry.name, options, given)


def _count_channels(input_size: tuple[int, ...]) -> int:
    # channels of images; features of vectors and of sequences (T, F)
    return input_size[-1] if len(input_size) == 2 else input_size[0]


def _plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in options.items():
        try:
            kept[name] = plain(value)
        except ValueError as error:
            raise ComponentError(str(error), option=name) from error
    return kept


def _need_images(name: str, input_size: tuple[int, ...]) -> None:
    if len(input_size) != 3:
        what = "a vector" if len(input_size) == 1 else "a sequence"
        sizes = size_text(input_size)
        raise ComponentError(
            f"{name} needs images, the data gives {what} of {sizes}; mlp and lstm take those", option="name"
        )


def _plan_ours(model: ModelSection, entry: Entry, options: dict[str, Any], given: dict[str, Any]) -> Arch:
    builder = resolve("models", entry.name)
    check_options(builder, options, injected=INJECTED["models"], also_known=ModelSection.model_fields)
    takes_layers = bool(accepted(builder, {"layers": None}))
    if takes_layers != (model.layers is not None):
        message = (
            "needs a list of layers"
            if takes_layers
            else f"layers belong to the model named layers, not to {entry.name}"
        )
        raise ComponentError(message, option="layers")
    if accepted(builder, {"in_channels": None}):
        _need_images(entry.name, tuple(given["input_size"]))
    layers = {"layers": _plain_options({"layers": model.layers})["layers"]} if takes_layers else {}
    return Arch("dlkit", entry.name, {**layers, **options, **accepted(builder, given)})


def _plan_torchvision(model: ModelSection, name: str, options: dict[str, Any], given: dict[str, Any]) -> Arch:
    if model.layers is not None:
        raise ComponentError(f"layers belong to the model named layers, not to {name}", option="layers")
    input_size = tuple(given["input_size"])
    _need_images(name, input_size)
    check_torchvision_options(name, options)
    bound = {} if {"image_size", "input_size"} & set(options) else plan_torchvision_size(name, input_size)
    if model.weights and is_published_name(model.weights) and given["in_channels"] == 3:
        bound |= PRETRAINED_OPTIONS.get(name, {})
    kept = {key: given[key] for key in ("num_classes", "in_channels")}
    return Arch("torchvision", name, {**bound, **options, **kept})


def _plan_user(model: ModelSection, options: dict[str, Any], given: dict[str, Any]) -> Arch:
    builder = import_target(model.name)
    if model.layers is not None and not accepted(builder, {"layers": None}):
        raise ComponentError(f"layers belong to the model named layers, not to {model.name}", option="layers")
    if model.layers is not None:
        options["layers"] = _plain_options({"layers": model.layers})["layers"]
    check_options(builder, options, injected=_GIVEN_TO_USERS, also_known=ModelSection.model_fields)
    return Arch("user", model.name, {**options, **accepted(builder, given)})


def build_model(arch: Arch, *, allow_user: bool = False) -> nn.Module:
    """The network of an architecture, randomly initialized. Touches no network and, unless `allow_user`, no foreign
    code.

    Raises ComponentError when it cannot be built.
    """
    if arch.registry == "user":
        return _build_user(arch, allow_user=allow_user)
    if arch.registry == "torchvision":
        return build_torchvision(arch.name, arch.options)
    entry = find_entry("models", arch.name)
    if entry is None or not entry.is_ours:
        raise ComponentError(f"no model {arch.name!r} in dlkit. See `dlkit list models`")
    builder = resolve("models", entry.name)
    check_options(builder, arch.options)
    return _call(builder, entry.name, arch.options)


def _build_user(arch: Arch, *, allow_user: bool) -> nn.Module:
    if not allow_user:
        raise ComponentError(
            f"the model is the user's own class {arch.name}; a file never imports code, "
            f"so name it on the command line: --model {arch.name}"
        )
    return build_user_model(arch.name, arch)


def build_user_model(model: str | Builder, arch: Arch) -> nn.Module:
    """A network of the user's own class, or import path of one, with the options of an architecture."""
    builder = import_target(model) if isinstance(model, str) else model
    check_options(builder, arch.options)
    options = dict(arch.options)
    if isinstance(options.get("input_size"), list):
        options["input_size"] = tuple(options["input_size"])
    network = _call(builder, arch.name, options)
    if not isinstance(network, nn.Module):
        raise ComponentError(f"{arch.name} gives a {type(network).__name__}; a torch.nn.Module is needed")
    return network


def _call(builder: Builder, name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        model: nn.Module = builder(**options)
    except ComponentError:
        raise
    except Exception as error:
        raise ComponentError(f"{name} cannot be built: {type(error).__name__}: {error}") from error
    return model


def build_on_meta(arch: Arch, *, allow_user: bool = False) -> nn.Module:
    """The network with shapes and without data, on the meta device: costs no memory, whatever sizes a file asks for."""
    with AllocateNothing():
        return build_model(arch, allow_user=allow_user).to("meta")
