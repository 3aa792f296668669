"""Opening what a person names: a dlkit model file, or weights from elsewhere beside the name of their network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.config import LoadedConfig, Model
from dlkit.core.components import ComponentError, is_import_path, resolve
from dlkit.core.data import DataInfo, PublishedInput, measure_data, open_data, open_source
from dlkit.core.modelfile import ModelFile, ModelSpec, is_dlkit_file, is_model_file, parse_model_file
from dlkit.core.models import (
    TIMM,
    Arch,
    build_model,
    build_on_meta,
    check_timm_model,
    find_first_conv,
    find_head,
    find_weights,
    guess_classifiers,
    imagenet_classes,
    is_timm_name,
    load_weights,
    makes_maps,
    match_weights,
    plan_arch,
    plan_timm_size,
    plan_torchvision_size,
    published_input,
    read_tensors,
    timm_input,
)
from dlkit.errors import DataError, FileRefused, UsageError
from dlkit.events import Emit, Note, ignore
from dlkit.registry import find_entry
from dlkit.tasks import TaskName

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_SIZE = 1000
PUBLISHED_SIZES = {"inception_v3": 299}  # of what was made for another size than 224
MAPS_SIZE = 520  # of torchvision's networks for segmentation
TORCHVISION = "torchvision:"


@dataclass(frozen=True)
class Naming:
    """How a user names a network, each part as the option of that name gives it.

    `arch` is the network of weights from elsewhere, of torchvision (`torchvision:resnet18`), of timm (`timm/test_vit`) or of dlkit;
    `num_classes` and `image_size` are what such weights do not tell; `model` is the class of a network of the user's own.
    """

    arch: str | None = None
    num_classes: int | None = None
    image_size: int | None = None
    model: str | None = None


def open_model(
    path: str | Path,
    naming: Naming | None = None,
    *,
    data: LoadedConfig | None = None,
    uses_data: bool = True,
    emit: Emit = ignore,
) -> ModelFile:
    """The model file at `path`; or weights from elsewhere as a model file in memory, when their network is named.

    `data` are the images that it is used on; without `uses_data` they only tell what weights take, and are refused beside a
    model file. Classes and input channels are told by the weights. A network of torchvision or timm takes images of
    `naming.image_size`, else of the size that `data` asks for, else of the size it was published for, normalized as `data`
    says, else as timm says, else as for ImageNet; other networks take what `data` holds. What was taken off the names of tensors
    is reported.
    Raises FileRefused for a file that is damaged, runs code, or does not fit the network, with a table of what differs.
    """
    path, naming = Path(path), naming or Naming()
    value = read_path(path)
    if is_dlkit_file(value):  # of any kind: what is no model file is refused by its own name
        _refuse_second_description(path, naming)
        if data is not None and not uses_data:
            raise UsageError(f"{path} is a dlkit model file and says itself what it takes; leave --data out")
        return parse_model_file(path, value)
    try:
        found = find_weights(value)
    except ValueError as error:
        raise FileRefused(path, str(error)) from error
    if naming.arch is None and naming.model is None:
        raise FileRefused(path, _ask_for_network(found.state))
    if naming.arch is not None and naming.model is not None:
        raise UsageError(
            "--arch names a network of torchvision, timm or dlkit, --model a class of your own; give one of them"
        )
    if found.others:
        emit(Note(f"{path}: {found.words}"))
    return open_weights(path, found.state, naming, data=data, emit=emit)


def open_weights(
    path: Path, weights: Mapping[str, Tensor], naming: Naming, *, data: LoadedConfig | None = None, emit: Emit = ignore
) -> ModelFile:
    """The weights of the file at `path` as a model file in memory of the network that `naming` names; see `open_model`."""
    if naming.arch is not None:
        check_arch(naming.arch)
    section, info = _describe(weights, naming.arch or naming.model or "", naming, data)
    return put_into_network(path, weights, section, info=info, data=data, emit=emit)


def weights_input(model: Model) -> PublishedInput | None:
    """What the weights that a config's model begins with were trained on: published ones, or those of a model file, which says it.

    None for other files, and for a model file of no images. Raises FileRefused for a file that cannot be read.
    """
    path = Path(model.weights or "")
    if (published := published_input(model)) is not None or not model.weights or not path.is_file():
        return published
    value = read_path(path)
    info = parse_model_file(path, value).spec.info if is_model_file(value) else None
    if info is None or info.kind != "image":
        return None
    height, width = info.input_size[1:]
    return PublishedInput(f"those of {path}", (height, width), info.fit, info.mean, info.std)


def read_path(path: Path) -> Any:
    """What a file holds: tensors and plain values only. Raises FileRefused."""
    return read_tensors(path)


def is_from_elsewhere(file: ModelFile) -> bool:
    """Whether a model file exists in memory only, made of weights that do not tell their network."""
    return file.spec.provenance.get("weights") == str(file.path)  # a converted file tells another name


def check_arch(arch: str) -> None:
    """Raise UsageError, with the names that come close, for what is no network of torchvision, timm or dlkit."""
    if is_import_path(arch.removeprefix(TORCHVISION)):
        raise UsageError(f"--arch {arch}: a class of your own is named with --model {arch}")
    if is_timm_name(arch):
        check_timm_model(Model(name=arch))
    else:
        resolve("models", arch.removeprefix(TORCHVISION))


def is_sized_by_weights(name: str) -> bool:
    """Whether a network is of torchvision or timm, whose weights tell what it takes; its name may begin with `torchvision:`."""
    entry = find_entry("models", name.removeprefix(TORCHVISION))
    return is_timm_name(name) or (entry is not None and not entry.is_ours)


def _refuse_second_description(path: Path, naming: Naming) -> None:
    for name, value in asdict(naming).items():
        if value is not None and name != "model":
            raise UsageError(
                f"{path} is a dlkit model file and says itself what it is; leave --{name.replace('_', '-')} out"
            )


def _ask_for_network(weights: Mapping[str, Tensor]) -> str:
    guesses = guess_classifiers(weights)
    if guesses:
        return (
            f"weights without a description of the network; they fit {' and '.join(guesses)}: "
            f"name it with --arch {TORCHVISION}{guesses[0]}"
        )
    return (
        "weights without a description of the network; name it: --arch torchvision:NAME or timm/NAME, or --model ./net.py:Net "
        "for a class of your own"
    )


def _describe(
    weights: Mapping[str, Tensor], name: str, naming: Naming, data: LoadedConfig | None
) -> tuple[Model, DataInfo]:
    """The model section and the input of the network that `name` is for these weights."""
    plain = name.removeprefix(TORCHVISION)
    if not is_import_path(plain) and is_sized_by_weights(plain):
        entry = find_entry("models", plain)
        section = Model(name=entry.name if entry else plain)
        return section, _image_info(section.name, weights, naming, data)
    if naming.image_size is not None:
        raise UsageError(f"--image-size is for networks of torchvision and timm; {plain} takes what --data holds")
    if data is None:
        raise UsageError(f"{plain} does not tell what it takes; name data that it was made for: --data CFG")
    info = measure_data(open_data(data, seed=data.config.seed), device=torch.device("cpu"))
    if naming.num_classes is not None:
        info = replace(info, num_outputs=naming.num_classes, classes=_names_of(info.classes, naming.num_classes))
    section = data.config.model
    # the options of the network stand in the config where that names it
    is_named = section.name.rpartition(":")[2].casefold() == plain.rpartition(":")[2].casefold()
    return (section.model_copy(update={"name": plain, "weights": None}) if is_named else Model(name=plain)), info


def _image_info(name: str, weights: Mapping[str, Tensor], naming: Naming, data: LoadedConfig | None) -> DataInfo:
    height, width = pick_size(name, image_size=naming.image_size, data=data)
    channels, outputs = _told_by(weights, name, (height, width))
    outputs = naming.num_classes or outputs
    classes = open_source(data, seed=data.config.seed).classes if data else None
    if classes is not None and len(classes) != outputs:
        raise DataError(
            f"the weights tell {outputs} classes apart, {_words(data)} holds {len(classes)}; name data with the classes "
            "that the network was trained on"
        )
    if classes is None and outputs == IMAGENET_SIZE:
        # the order of ImageNet's classes is the same everywhere
        classes = imagenet_classes(
            "resnet18" if is_timm_name(name) else name
        )  # nobody publishes 1000 classes of another kind under these names
    published = _published(name)
    mean, std = _normalization(data, channels, published)
    fit = published.fit.at((height, width), published.size) if published and published.fit else None
    return DataInfo(task_of(name), "image", (channels, height, width), outputs, classes, mean, std, fit=fit)


def task_of(name: str) -> TaskName:
    """Returns what a network of torchvision, timm or dlkit is for, as far as its name tells."""
    return "segmentation" if makes_maps(name) else "classification"


def _published(name: str) -> PublishedInput | None:
    """How timm prepares pictures for a network of its own; None for others."""
    return timm_input(name.removeprefix(TIMM)) if is_timm_name(name) else None


def pick_size(name: str, *, image_size: int | None, data: LoadedConfig | None) -> tuple[int, int]:
    """Height and width that a network of torchvision or timm takes: as asked, else as the data are made, else as published."""
    if image_size is not None:
        return image_size, image_size
    asked = data.config.data.final_size if data else "auto"
    if asked == "auto":
        size, published = PUBLISHED_SIZES.get(name, MAPS_SIZE if makes_maps(name) else 224), _published(name)
        return published.size if published else (size, size)
    return (asked, asked) if isinstance(asked, int) else (asked[0], asked[1])


def _told_by(weights: Mapping[str, Tensor], name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Input channels and classes, from the shapes of the first convolution and of the head."""
    try:
        network = _skeleton(name, size)
    except ComponentError as error:
        raise UsageError(f"--arch {name}: {error}") from error
    weights = match_weights(network, weights).reading.state
    first = find_first_conv(network)
    weight = weights.get(f"{first[0]}.weight") if first else None
    channels = int(weight.shape[1]) if weight is not None and weight.ndim == 4 else 3
    return channels, _count_classes(network, weights) or 1000


def _skeleton(name: str, size: tuple[int, int]) -> nn.Module:
    common, sample = {"num_classes": 2, "in_channels": 3}, (3, *size)
    if is_timm_name(name):
        plain = name.removeprefix(TIMM)
        return build_on_meta(Arch("timm", plain, {**plan_timm_size(plain, sample), **common}))
    return build_on_meta(Arch("torchvision", name, {**plan_torchvision_size(name, sample), **common}))


def _count_classes(network: nn.Module, weights: Mapping[str, Tensor]) -> int | None:
    head = find_head(network)
    weight = weights.get(f"{head[0]}.weight") if head else None
    return int(weight.shape[0]) if weight is not None and weight.ndim else None


def _normalization(
    data: LoadedConfig | None, channels: int, published: PublishedInput | None
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    asked = data.config.data.normalize if data else "auto"
    if data is not None and asked == "data":
        words = (
            "these weights were trained with statistics of their own; give mean and std, or auto for those of ImageNet"
        )
        raise data.error(("data", "normalize"), words)
    if asked == "none" or (asked == "auto" and channels != 3):
        return None, None
    if isinstance(asked, str):
        return (published.mean, published.std) if published else (IMAGENET_MEAN, IMAGENET_STD)
    spread = [tuple(values) * (channels if len(values) == 1 else 1) for values in (asked.mean, asked.std)]
    return spread[0], spread[1]


def _words(data: LoadedConfig | None) -> str:
    return str(data.config.data.options.get("path", data.config.data.name)) if data else "the data"


def _names_of(classes: tuple[str, ...] | None, count: int) -> tuple[str, ...] | None:
    return classes if classes is not None and len(classes) == count else None


def put_into_network(
    path: Path,
    weights: Mapping[str, Tensor],
    section: Model,
    *,
    info: DataInfo,
    data: LoadedConfig | None = None,
    emit: Emit = ignore,
) -> ModelFile:
    """A model file in memory of a network with these weights, which must be exactly its own."""
    try:
        arch = plan_arch(section, input_size=info.input_size, num_outputs=info.num_outputs)
        network = build_model(arch, input_size=info.input_size)
    except ComponentError as error:
        raise UsageError(f"{section.name}: {error}") from error
    loaded = load_weights(network, weights, source=path, strict_head=True)
    if loaded.fitted:
        raise FileRefused(path, f"{loaded.fitted[0]} is for other input than {info.input_size[0]} channels")
    if loaded.words:
        emit(Note(f"{path}: {loaded.words}"))
    config = _config_of(data, section) if data else {}
    spec = ModelSpec(arch, info, data=config.get("data", {}), config=config, provenance={"weights": str(path)})
    return ModelFile(path, spec, network.state_dict())


def _config_of(data: LoadedConfig, section: Model) -> dict[str, Any]:
    """The config of the data, so that the file tells what it is judged on, with this network in it."""
    return data.config.model_copy(update={"model": section}).model_dump(mode="json")
