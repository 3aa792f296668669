"""Classes of single images, prepared just as the model's evaluation data was."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dlkit.config import load_mapping
from dlkit.core.data import (
    EXTENSIONS,
    Mode,
    build_eval_transform,
    load_image,
    mode_for,
    prepare_image,
)
from dlkit.core.evaluation.answers import answers_of
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device
from dlkit.core.trained_config import refuse_own_code
from dlkit.errors import DataError, UsageError


@dataclass(frozen=True)
class ImagePrediction:
    """The likeliest classes of an image with their probabilities, best first; for regression `values` instead.

    `problem` says why a file has neither.
    """

    path: Path
    classes: list[tuple[str, float]]
    values: list[float]
    problem: str = ""


def predict_images(
    file: ModelFile,
    paths: Sequence[Path],
    *,
    topk: int = 5,
    model: str | None = None,
    device: str = "auto",
    batch_size: int = 64,
) -> Iterator[ImagePrediction]:
    """Yields predictions for images and for all images below folders, in order. A file that cannot be read does not stop the others.

    Raises UsageError when the model does not take images, DataError for a file that is missing.
    """
    info = file.spec.info
    if info.kind != "image":
        raise UsageError(f"{file.path} takes {info.kind}, not images; use `dlkit eval MODEL --data CFG`")
    found = find_images(paths)
    mode, transform = mode_for(info), _eval_transform(file)
    target = pick_model_device(file, device)
    network = build_from_file(file, model=model).to(target)
    for start in range(0, len(found), batch_size):
        part = found[start : start + batch_size]
        loaded = [_try_load(path, mode, lambda image: prepare_image(image, info, transform=transform)) for path in part]
        images = [image for image in loaded if isinstance(image, Tensor)]
        answers = iter(answers_of(network, torch.stack(images).to(target), info, topk=topk) if images else ())
        for path, image in zip(part, loaded, strict=True):
            if isinstance(image, str):
                yield ImagePrediction(path, [], [], problem=image)
            else:
                answer = next(answers)
                yield ImagePrediction(path, answer.classes, answer.values)


def _try_load(path: Path, mode: Mode, prepare: Callable[[Tensor], Tensor]) -> Tensor | str:
    """Returns the prepared image, or what is wrong with the file."""
    try:
        return prepare(load_image(path, mode=mode))
    except DataError as error:
        return str(error)


def _eval_transform(file: ModelFile) -> Callable[[Tensor], Tensor] | None:
    """Returns the evaluation transforms of the config that a model file was trained with; a file never names foreign code.

    None for a file without a config, such as one that `dlkit convert` wrote.
    """
    if not file.spec.config:
        return None
    loaded = load_mapping(dict(file.spec.config))
    names = [transform.name for transform in loaded.config.data.eval_transforms]
    refuse_own_code(file, names, what="the transform ", way_out="use dlkit.load_model")
    return build_eval_transform(loaded, file.spec.info)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Returns the files themselves, and the images below each folder in order of their names."""
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
