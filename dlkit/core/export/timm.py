"""Folders that `timm.create_model("local-dir:FOLDER", pretrained=True)` reads: config.json and model.safetensors.

timm builds its own networks, so that only its own can be given to it, and those of torchvision whose parameters have the same names and
order of operations in both: the ResNet family. The layout is that of timm's own `save_for_hf` (timm, models/_hub.py).
"""

from pathlib import Path
from typing import Any

from torch import nn

from dlkit.core.export.weights import plain_weights, safetensors_bytes
from dlkit.core.modelfile import ModelSpec
from dlkit.core.models import pretrained_config
from dlkit.errors import UsageError
from dlkit.files import worded, write_bytes, write_json

# the same name in torchvision and in timm; width of the features before the classifier
SAME_IN_TIMM = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
    "resnext50_32x4d": 2048,
    "resnext101_32x8d": 2048,
    "resnext101_64x4d": 2048,
    "wide_resnet50_2": 2048,
    "wide_resnet101_2": 2048,
}
PLAIN_OPTIONS = {"num_classes", "in_channels"}


def write_timm_folder(network: nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write both files; config.json, without which timm sees nothing, comes last. Other files in the folder are left alone.

    Raises UsageError for a network that timm has in another form.
    """
    check_timm_has(spec)
    with worded(path):
        path.mkdir(exist_ok=True)
    write_bytes(path / "model.safetensors", safetensors_bytes(plain_weights(network), {}))
    write_json(path / "config.json", timm_config(network, spec))


def check_timm_has(spec: ModelSpec) -> None:
    """Raise UsageError, with the reason, for a network whose weights timm cannot load."""
    arch = spec.arch
    is_timms = arch.registry == "timm"
    if not is_timms and (arch.registry != "torchvision" or arch.name not in SAME_IN_TIMM):
        raise UsageError(
            f"timm has no network with the parameter names of {arch.name}; those that both have are timm's own and "
            f"{', '.join(SAME_IN_TIMM)}. For other programs use --format safetensors"
        )
    if spec.transforms:
        raise UsageError(
            f"timm builds {arch.name} in its full size and in float; this network was changed after training"
        )
    if not is_timms and (others := sorted(set(arch.options) - PLAIN_OPTIONS)):
        raise UsageError(f"timm's {arch.name} has no option {', '.join(others)}, which this network was built with")


def timm_config(network: nn.Module, spec: ModelSpec) -> dict[str, Any]:
    """What timm's config.json holds: the architecture, its options, the classes, and how images are prepared."""
    info, arch = spec.info, spec.arch
    # torchvision's names of the first and the last layer; timm has them as its own too
    known = pretrained_config(arch.name) if arch.registry == "timm" else {"first_conv": "conv1", "classifier": "fc"}
    options = {key: value for key, value in arch.options.items() if key not in PLAIN_OPTIONS}
    resized = info.fit.resize_size[0] if info.fit else info.input_size[1]
    pretrained: dict[str, Any] = {
        "input_size": list(info.input_size),
        "fixed_input_size": bool(known.get("fixed_input_size")),
        "crop_pct": info.input_size[1] / resized,
        "crop_mode": info.fit.crop_mode if info.fit else "center",
        "interpolation": info.fit.interpolation if info.fit else "bilinear",
        "num_classes": spec.arch.options["num_classes"],
        "classifier": known.get("classifier"),
    }
    # timm fits first convolutions from 3 channels to others; one that has others already must be left alone
    if info.input_size[0] == 3:
        pretrained["first_conv"] = known.get("first_conv")
    if info.mean is not None and info.std is not None:
        pretrained |= {"mean": list(info.mean), "std": list(info.std)}
    config: dict[str, Any] = {
        "architecture": arch.name.partition(".")[0],
        "num_classes": spec.arch.options["num_classes"],
        "num_features": SAME_IN_TIMM.get(arch.name) or getattr(network, "num_features", None),
        "pretrained_cfg": pretrained,
    }
    if options:
        config["model_args"] = options
    return config | ({"label_names": list(info.classes)} if info.classes else {})
