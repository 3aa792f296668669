"""What published weights were trained on: how pictures were fitted and normalized."""

from typing import Any

from dlkit.config import Model as ModelSection
from dlkit.core.components import is_import_path
from dlkit.core.data import ImageFit, PublishedInput
from dlkit.core.models.timm import PREFIX, is_timm_name, pretrained_config
from dlkit.core.models.torchvision import is_published_name
from dlkit.registry import find_entry


def published_input(model: ModelSection) -> PublishedInput | None:
    """Returns what the weights that a config's model begins with were trained on; None where they are not published ones.

    Those of a file are not, whatever the model is called. Reads tables only, fetches nothing.
    """
    if model.weights is None or is_import_path(model.name) or not is_published_name(model.weights):
        return None
    if is_timm_name(model.name):
        return timm_input(model.name.removeprefix(PREFIX))
    entry = find_entry("models", model.name)
    return _of_torchvision(entry.name, model.weights) if entry and not entry.is_ours else None


def timm_input(name: str) -> PublishedInput | None:
    """Returns how timm prepares pictures for one of its networks, from the table of its tag; None where it has none."""
    config = pretrained_config(name)
    if not config.get("input_size"):
        return None
    height, width = config["input_size"][1:]
    share = config.get("crop_pct") or 1.0
    # timm/data/transforms_factory.py: the size is divided and cut off; what it calls border, 6 of 1,826 tags, is padded there
    resized = (max(height, int(height / share)), max(width, int(width / share)))
    mode = "squash" if config.get("crop_mode") == "squash" else "center"
    interpolation = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
    tag = f"{config['architecture']}.{config['tag']}" if config.get("tag") else name
    return PublishedInput(
        f"those of timm's {tag}",
        (height, width),
        ImageFit(resized, interpolation, mode),
        tuple(config["mean"]),
        tuple(config["std"]),
    )


def _of_torchvision(name: str, weights: str) -> PublishedInput | None:
    import torchvision  # takes two seconds

    entries = torchvision.models.get_model_weights(name)
    if weights not in entries.__members__:
        return None  # said where the weights are loaded
    preset: Any = entries[weights].transforms()
    (size,), (resized,) = preset.crop_size, preset.resize_size
    fit = ImageFit((resized, resized), preset.interpolation.value)
    return PublishedInput(f"those of {entries[weights]}", (size, size), fit, tuple(preset.mean), tuple(preset.std))
