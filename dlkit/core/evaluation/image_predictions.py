"""Classes of single images, prepared just as the model's evaluation data was."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dlkit.core.data.images import EXTENSIONS, Mode, load_image, prepare_image
from dlkit.core.devices import pick_device, torch_settings
from dlkit.core.modelfile import ModelFile, build_from_file
from dlkit.errors import DataError, UsageError


@dataclass(frozen=True)
class ImagePrediction:
    """The likeliest classes of an image with their probabilities, best first; for regression `values` instead."""

    path: Path
    classes: list[tuple[str, float]]
    values: list[float]


def predict_images(
    file: ModelFile,
    paths: Sequence[Path],
    *,
    topk: int = 5,
    model: str | None = None,
    device: str = "auto",
    batch_size: int = 64,
) -> Iterator[ImagePrediction]:
    """Predictions for images and for all images below folders, in order.

    Raises UsageError when the model does not take images, DataError for a file that is missing or no image.
    """
    info = file.spec.info
    if info.kind != "image":
        raise UsageError(f"{file.path} takes {info.kind}, not images; use `dlkit eval MODEL --data CFG`")
    found = find_images(paths)
    with torch_settings(), torch.inference_mode():
        target = pick_device(device)
        mode: Mode = "grey" if info.input_size[0] == 1 else "rgb"
        network = build_from_file(file, model=model).to(target)
        for start in range(0, len(found), batch_size):
            part = found[start : start + batch_size]
            inputs = torch.stack([prepare_image(load_image(path, mode=mode), info) for path in part])
            for path, output in zip(part, network(inputs.to(target)).float().cpu(), strict=True):
                yield _describe(path, output, info.classes, topk, is_classification=info.task == "classification")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and the images below each folder in order of their names."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                child for child in path.rglob("*") if child.suffix.lower() in EXTENSIONS and child.is_file()
            )
            if not inside:
                raise DataError(f"{path}: no images in this folder ({', '.join(sorted(EXTENSIONS))})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return found


def _describe(
    path: Path, output: torch.Tensor, classes: tuple[str, ...] | None, topk: int, *, is_classification: bool
) -> ImagePrediction:
    if not is_classification:
        return ImagePrediction(path, [], output.tolist())
    names = classes or tuple(map(str, range(len(output))))
    values, indices = output.softmax(0).topk(min(topk, len(output)))
    return ImagePrediction(
        path, [(names[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)], []
    )
