"""From a config's model section to an architecture, and from an architecture to a network."""

from collections.abc import Mapping
from dataclasses import replace
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
    known_entry,
)
from dlkit.core.models.arch import Arch, plain
from dlkit.core.models.lazy_layers import initialize_lazy_layers
from dlkit.core.models.meta import AllocateNothing
from dlkit.core.models.timm import (
    PREFIX,
    build_timm,
    check_timm_options,
    check_timm_tag,
    find_timm,
    is_timm_name,
    plan_timm_size,
)
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
    """Returns the architecture that a config means, for samples of `input_size` ((C, H, W), (T, F) or (F,)).

    Every auto is filled, and the builder is found and the options checked against it: nothing is looked up again to
    build the network. Raises ComponentError for unknown names and options, and for a model that does not suit the samples.
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
    if is_timm_name(model.name):
        return _plan_timm(model, options, given)
    entry = known_entry("models", model.name)
    return (_plan_ours if entry.is_ours else _plan_torchvision)(model, entry, options, given)


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
    builder = import_target(entry.target)
    check_options(builder, options, injected=INJECTED["models"], also_known=ModelSection.model_fields)
    takes_layers = bool(accepted(builder, {"layers": None}))
    if takes_layers and model.layers is None:
        raise ComponentError("needs a list of layers", option="layers")
    layers = _layers_of(model, entry.name, is_taken=takes_layers)
    if accepted(builder, {"in_channels": None}):
        _need_images(entry.name, tuple(given["input_size"]))
    return Arch("dlkit", entry.name, {**layers, **options, **accepted(builder, given)}, builder)


def _layers_of(model: ModelSection, name: str, *, is_taken: bool) -> dict[str, Any]:
    """Returns the section's list of layers as an option. Raises ComponentError where the model takes none."""
    if model.layers is None:
        return {}
    if not is_taken:
        raise ComponentError(f"layers belong to the model named layers, not to {name}", option="layers")
    return _plain_options({"layers": model.layers})


def _plan_torchvision(model: ModelSection, entry: Entry, options: dict[str, Any], given: dict[str, Any]) -> Arch:
    name, input_size = entry.name, tuple(given["input_size"])
    _layers_of(model, name, is_taken=False)
    _need_images(name, input_size)
    check_torchvision_options(name, options)
    bound = {} if {"image_size", "input_size"} & set(options) else plan_torchvision_size(name, input_size)
    if model.weights and is_published_name(model.weights) and given["in_channels"] == 3:
        bound |= PRETRAINED_OPTIONS.get(name, {})
    kept = {key: given[key] for key in ("num_classes", "in_channels")}
    return Arch("torchvision", name, {**bound, **options, **kept}, import_target(entry.target))


def check_timm_model(model: ModelSection) -> None:
    """Raise ComponentError for what the installed timm does not know in a section that names one of its networks; needs no data."""
    name = model.name.removeprefix(PREFIX)
    find_timm(name)
    check_timm_tag(name)
    _layers_of(model, model.name, is_taken=False)
    check_timm_options(name, _plain_options(model.options))


def _plan_timm(model: ModelSection, options: dict[str, Any], given: dict[str, Any]) -> Arch:
    name, input_size = model.name.removeprefix(PREFIX), tuple(given["input_size"])
    check_timm_model(model)
    _need_images(model.name, input_size)
    kept = {key: given[key] for key in ("num_classes", "in_channels")}
    return Arch("timm", name, {**plan_timm_size(name, input_size), **options, **kept}, find_timm(name))


def _plan_user(model: ModelSection, options: dict[str, Any], given: dict[str, Any]) -> Arch:
    builder = import_target(model.name)
    options |= _layers_of(model, model.name, is_taken=bool(accepted(builder, {"layers": None})))
    check_options(builder, options, injected=_GIVEN_TO_USERS, also_known=ModelSection.model_fields)
    return Arch("user", model.name, {**options, **accepted(builder, given)}, builder)


def resolve_arch(arch: Arch, user_class: str | Builder | None = None) -> Arch:
    """Returns an architecture from a file with its builder, the options checked against it.

    For a network of the user's own, `user_class` is that class or its import path: a file alone never causes an
    import. Raises ComponentError for a name that is not in the registry and for options that the builder does not take.
    """
    if arch.registry == "user":
        return replace(arch, builder=_named_again(arch, user_class))
    if arch.registry == "timm":
        check_timm_options(arch.name, arch.options)
        return replace(arch, builder=find_timm(arch.name))
    entry = find_entry("models", arch.name)
    if entry is None or entry.is_ours != (arch.registry == "dlkit"):
        what = f"model {arch.name!r} in dlkit" if arch.registry == "dlkit" else f"torchvision classifier {arch.name!r}"
        raise ComponentError(f"no {what}. See `dlkit list models`")
    builder = import_target(entry.target)
    if entry.is_ours:
        check_options(builder, arch.options)
    else:
        check_torchvision_options(entry.name, arch.options)
    return replace(arch, name=entry.name, builder=builder)


def _named_again(arch: Arch, user_class: str | Builder | None) -> Builder:
    if user_class is None:
        raise ComponentError(
            f"the model is the user's own class {arch.name}; a file never imports code, "
            f"so name it on the command line: --model {arch.name}"
        )
    builder = import_target(user_class) if isinstance(user_class, str) else user_class
    check_options(builder, arch.options)
    return builder


def build_model(arch: Arch, *, input_size: tuple[int, ...] | None = None) -> nn.Module:
    """Returns the network of an architecture, randomly initialized. Downloads nothing and runs no code that a file names.

    `input_size` is that of a sample, for lazy layers. Raises ComponentError when it cannot be built.
    """
    return initialize_lazy_layers(_construct(arch), arch.name, input_size)


def _construct(arch: Arch) -> nn.Module:
    if arch.builder is None:
        arch = resolve_arch(arch)
    assert arch.builder is not None
    if arch.registry == "torchvision":
        return build_torchvision(arch.name, arch.builder, arch.options)
    if arch.registry == "timm":
        return build_timm(arch.name, arch.options)
    options = dict(arch.options)
    if arch.registry == "user" and isinstance(options.get("input_size"), list):
        options["input_size"] = tuple(options["input_size"])
    try:
        network = arch.builder(**options)
    except ComponentError:
        raise
    except Exception as error:
        raise ComponentError(f"{arch.name} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ComponentError(f"{arch.name} gives a {type(network).__name__}; a torch.nn.Module is needed")
    return network


def build_on_meta(arch: Arch, *, input_size: tuple[int, ...] | None = None) -> nn.Module:
    """Returns the network on the meta device, with shapes and without data: costs no memory, whatever sizes a file asks for."""
    with AllocateNothing():
        network = _construct(arch).to("meta")
    return initialize_lazy_layers(network, arch.name, input_size)
