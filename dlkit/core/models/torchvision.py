"""torchvision's classifiers and networks for segmentation by name, with any number of classes and input channels, and with
torchvision's own state-dict keys.
"""

import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from dlkit.core.components import Builder, ComponentError
from dlkit.errors import first_line
from dlkit.suggestions import did_you_mean

# arguments that dlkit decides itself: no download while building, and no second output
_DECIDED = {"weights", "progress", "aux_logits", "init_weights"}
# MobileNetV3's builder reads these before its class sees them
_BUILDER_OPTIONS = {"MobileNetV3": ("width_mult", "reduced_tail", "dilated")}
HAS_AUX_HEADS = {"googlenet", "inception_v3"}
# their published weights expect this, and torchvision sets it when it loads them
PRETRAINED_OPTIONS = {"googlenet": {"transform_input": True}, "inception_v3": {"transform_input": True}}
IMAGENET_SIZE = 1000
SEGMENTS = ("fcn_", "deeplabv3_", "lraspp_")  # what names of networks for segmentation begin with
AUX_WEIGHT, AUX_HEAD = (
    "aux_weight",
    "aux_classifier",
)  # an option of ours, the weight of the auxiliary head's loss; and that head
_MAXVIT_MULTIPLE = 224  # 5 halvings, then windows of 7
_OWN_MAPS = ("unet",)


def makes_maps(name: str) -> bool:
    """Whether a network of the registry, of dlkit or torchvision, says a class for each pixel."""
    return name in _OWN_MAPS or name.startswith(SEGMENTS)


def build_torchvision(name: str, builder: Builder, options: Mapping[str, Any]) -> nn.Module:
    """Returns the named network, randomly initialized. `options` are its class's own, plus `in_channels`.

    Raises ComponentError for values that the class refuses.
    """
    keywords = dict(options)
    in_channels = keywords.pop("in_channels", 3)
    if makes_maps(name):
        return fit_first_conv(_build_maps(builder, **keywords), in_channels)
    if isinstance(keywords.get("input_size"), list):
        keywords["input_size"] = tuple(keywords["input_size"])
    if name in HAS_AUX_HEADS:
        keywords |= {"aux_logits": False, "init_weights": True}
    if keywords.get("transform_input") and in_channels != 3:
        raise ComponentError(f"transform_input needs 3 channels, the data has {in_channels}", option="transform_input")
    model = _call(builder, name, keywords)
    if type(model).__name__ == "MNASNet":
        from dlkit.core.models.mnasnet import CurrentMNASNet

        model.__class__ = CurrentMNASNet
    return fit_first_conv(model, in_channels)


def _build_maps(builder: Builder, num_classes: int, aux_weight: float = 0.0) -> nn.Module:
    from dlkit.core.models.torchvision_maps import build_maps  # takes two seconds

    is_number = isinstance(aux_weight, int | float) and not isinstance(aux_weight, bool)
    if not is_number or not 0 <= aux_weight <= 10:
        raise ComponentError(
            f"must be a number from 0 (no auxiliary head) to 10, not {aux_weight!r}", option=AUX_WEIGHT
        )
    return build_maps(builder, num_classes, float(aux_weight))


def _call(builder: Builder, name: str, keywords: Mapping[str, Any]) -> nn.Module:
    with warnings.catch_warnings():
        # inception and googlenet warn that their initialization is slow
        warnings.filterwarnings("ignore", category=FutureWarning, module="torchvision")
        try:
            model: nn.Module = builder(weights=None, progress=False, **keywords)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, ArithmeticError) as error:
            raise ComponentError(f"{name} cannot be built with {dict(keywords)}: {first_line(error)}") from error
    return model


def check_torchvision_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ComponentError for an option that the network's class does not take, or that dlkit decides itself."""
    known = torchvision_options(name)
    for option in options:
        if option not in (*known, "num_classes", "in_channels"):
            hint = did_you_mean(option, known)
            raise ComponentError(
                f"unknown key for {name}.{hint} It takes: {', '.join(known) or 'nothing'}", option=option
            )


def torchvision_options(name: str) -> list[str]:
    """Returns options of a network that a config may set: those of its class that are plain values and that its builder
    leaves open.
    """
    if makes_maps(name):
        return [] if name.startswith("lraspp_") else [AUX_WEIGHT]
    import torchvision  # takes two seconds

    builder = torchvision.models.get_model_builder(name)
    model_class = inspect.signature(builder).return_annotation
    parameters = list(inspect.signature(model_class).parameters.values())
    has_value = [
        p
        for p in parameters
        if p.default is not p.empty and p.kind is not p.VAR_KEYWORD and "Callable" not in str(p.annotation)
    ]
    names = [parameter.name for parameter in has_value if parameter.name not in {*_DECIDED, "num_classes"}]
    sized = {"VisionTransformer": ["image_size"], "MaxVit": ["input_size"]}.get(model_class.__name__, [])
    return [*names, *_BUILDER_OPTIONS.get(model_class.__name__, ()), *sized]


def plan_torchvision_size(name: str, input_size: tuple[int, ...]) -> dict[str, Any]:
    """Returns options that bind a model to the size of its images, from a sample's (C, H, W); nothing for most models.

    Raises ComponentError for a size that the model cannot take.
    """
    height, width = input_size[1:]
    if name.startswith("vit_"):
        patch = int(name.rsplit("_", 1)[1])
        if height != width or height % patch:
            raise ComponentError(
                f"{name} needs square images with a side that is a multiple of {patch}, gets {height}x{width}: "
                "set data.image_size"
            )
        return {"image_size": height}
    if name.startswith("maxvit"):
        if height % _MAXVIT_MULTIPLE or width % _MAXVIT_MULTIPLE:
            raise ComponentError(
                f"{name} needs images with sides that are multiples of {_MAXVIT_MULTIPLE}, gets {height}x{width}: "
                "set data.image_size"
            )
        return {"input_size": [height, width]}
    if name == "inception_v3" and min(height, width) < 75:
        raise ComponentError(f"{name} needs images of 75x75 or larger, gets {height}x{width}: set data.image_size")
    return {}


def find_first_conv(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """Name and module of the convolution that sees the images."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    return None


def fit_first_conv(model: nn.Module, in_channels: int) -> nn.Module:
    """Returns the model with a first convolution for this many channels; the same object, unchanged where they already fit.

    New weights are normal with the deviation of the old ones, scaled so that the output keeps its variance.
    """
    found = find_first_conv(model)
    if found is None or found[1].in_channels == in_channels:
        return model
    name, old = found
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        old.groups,
        old.bias is not None,
        old.padding_mode,
    )
    with torch.no_grad():
        if not old.weight.is_meta:
            new.weight.normal_(std=float(old.weight.std()) * (old.in_channels / in_channels) ** 0.5)
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
    return model


def fit_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Returns a first convolution's weight (out, c, kh, kw) for another number of input channels.

    One channel: the sum over the old ones, so that a grey image gives what its copy in every channel gave. Otherwise
    the old channels over and over, scaled by c / in_channels, which keeps the response to such an image too.
    """
    old = weight.shape[1]
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    picked = torch.arange(in_channels) % old
    return weight[:, picked] * (old / in_channels)


def imagenet_classes(name: str) -> tuple[str, ...] | None:
    """Returns the names of ImageNet's 1000 classes, in the order of a classifier's published weights; None where it has none."""
    import torchvision  # takes two seconds

    found = [member.meta.get("categories") for member in torchvision.models.get_model_weights(name)]
    return next((tuple(names) for names in found if names and len(names) == IMAGENET_SIZE), None)


def is_published_name(weights: str) -> bool:
    """Returns whether `model.weights` means published weights (`DEFAULT`, `IMAGENET1K_V1`) and no file."""
    return weights.replace("_", "").isalnum() and not Path(weights).exists()


def pretrained_state_dict(name: str, weights: str) -> dict[str, Tensor]:
    """torchvision's published weights of a classifier: `DEFAULT` or a name such as `IMAGENET1K_V1`. Fetches them if
    need be.
    """
    import torchvision  # takes two seconds

    entries = torchvision.models.get_model_weights(name)
    if weights not in entries.__members__:
        known = ["DEFAULT", *entries.__members__]
        raise ComponentError(
            f"no weights {weights!r} for {name}.{did_you_mean(weights, known)} It has: {', '.join(known)}",
            option="weights",
        )
    try:
        state: dict[str, Tensor] = entries[weights].get_state_dict(progress=False, check_hash=True)
    except URLError as error:
        raise ComponentError(
            f"the weights {weights!r} of {name} cannot be fetched: {error.reason}. Check the network, or fetch "
            f"{entries[weights].url} elsewhere and give the file's path",
            option="weights",
        ) from None
    return state
