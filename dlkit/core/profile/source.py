"""From what a person names to a model on the meta device: a name, an import path, a model file or a config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlkit.config import load_config
from dlkit.core.components import ComponentError, accepted, check_options, import_target, is_import_path, resolve
from dlkit.core.data import measure_data, open_data
from dlkit.core.modelfile import build_from_file, read_model_file
from dlkit.core.models import (
    TIMM,
    AllocateNothing,
    Arch,
    build_on_meta,
    find_timm,
    initialize_lazy_layers,
    is_timm_name,
    plan_arch,
    plan_timm_size,
    pretrained_config,
    resolve_arch,
)
from dlkit.core.opening import weights_input
from dlkit.core.profile.costs import InputSpec, ProfileError
from dlkit.registry import find_entry

# torchvision's classifier that was made for another size than 224, and the two that warn unless told how to begin
_SIZES = {"inception_v3": 299}
_OPTIONS: Mapping[str, dict[str, Any]] = {
    "inception_v3": {"init_weights": False},
    "googlenet": {"init_weights": False},
}


@dataclass(frozen=True)
class ProfiledModel:
    """A model on the meta device, and the inputs that it is made for, where that is known."""

    name: str
    model: nn.Module
    inputs: tuple[InputSpec, ...] | None


def model_from(text: str, *, given: Mapping[str, Any] | None = None) -> ProfiledModel:
    """The model that `text` names: a name of the registry or of torchvision, `package.module:Net`, `./file.py:Net`, a
    model file or a config. `given` are values for builders that take them: input_size, in_channels, num_classes.

    A config's data is read for its sizes. Raises ComponentError for an unknown name, ProfileError for what cannot be
    built, FileRefused and ConfigError for files.
    """
    if is_import_path(text):
        builder = import_target(text)
        return ProfiledModel(text, _build(text, builder, accepted(builder, given or {})), None)
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        return _from_config(path)
    if path.is_file() or (path.suffix and not is_timm_name(text)):
        return _from_file(path)
    return _from_name(text, given or {})


def fit_to_inputs(source: ProfiledModel, inputs: Sequence[InputSpec]) -> ProfiledModel:
    """Returns the same model with its lazy layers initialized by a batch of such inputs. Raises ComponentError if none passes."""
    initialize_lazy_layers(source.model, source.name, None, inputs=[spec.on_meta(2) for spec in inputs])
    return source


def _from_config(path: Path) -> ProfiledModel:
    loaded = load_config(path)
    info = measure_data(
        open_data(loaded, seed=loaded.config.seed, published=weights_input(loaded.config.model)),
        device=torch.device("cpu"),
    )
    arch = plan_arch(loaded.config.model, input_size=info.input_size, num_outputs=info.num_outputs)
    return ProfiledModel(
        str(path), build_on_meta(arch, input_size=info.input_size), (InputSpec(tuple(info.input_size)),)
    )


def _from_file(path: Path) -> ProfiledModel:
    file = read_model_file(path)
    is_plain = not file.spec.transforms and file.spec.arch.registry != "user"
    model = build_on_meta(file.spec.arch) if is_plain else build_from_file(file).to("meta")
    return ProfiledModel(str(path), model, (InputSpec(tuple(file.spec.info.input_size)),))


def _from_name(name: str, given: Mapping[str, Any]) -> ProfiledModel:
    """dlkit's own networks take their sizes from `given`; torchvision's are built as published, also no classifiers."""
    if is_timm_name(name):
        return _from_timm(name, given)
    entry = find_entry("models", name)
    if entry is not None and entry.is_ours:
        ours = resolve("models", name)
        return ProfiledModel(name, _build(name, ours, accepted(ours, given)), None)
    from torchvision.models import get_model_builder, list_models  # takes two seconds to import

    if name.lower() not in list_models():
        resolve("models", name)  # raises, with the names that come close
    size = _SIZES.get(name.lower(), 224)
    builder = get_model_builder(name.lower())
    options = _OPTIONS.get(name.lower(), {}) | accepted(
        builder, {"weights_backbone": None}
    )  # torchvision would fetch them
    return ProfiledModel(name, _build(name, builder, options), (InputSpec((3, size, size)),))


def _from_timm(name: str, given: Mapping[str, Any]) -> ProfiledModel:
    """As published, for the input that is asked for, else the one that its weights were made for."""
    plain = name.removeprefix(TIMM)
    find_timm(plain)
    size = tuple(given.get("input_size") or pretrained_config(plain).get("input_size", (3, 224, 224)))
    options = {**plan_timm_size(plain, size), "in_channels": size[0]} if len(size) == 3 else {}
    options |= {key: given[key] for key in ("num_classes",) if key in given}
    network = build_on_meta(resolve_arch(Arch("timm", plain, options)))
    return ProfiledModel(name, network, (InputSpec(size),))


def _build(text: str, builder: Any, options: Mapping[str, Any]) -> nn.Module:
    check_options(builder, options)
    try:
        with AllocateNothing():
            model = builder(**options)
            on_meta = model.to("meta") if isinstance(model, nn.Module) else None
    except ComponentError:
        raise
    except Exception as error:
        raise ProfileError(f"{text} cannot be built: {type(error).__name__}: {error}") from error
    if on_meta is None:
        raise ProfileError(f"{text} gives a {type(model).__name__}; a torch.nn.Module is needed")
    return on_meta
