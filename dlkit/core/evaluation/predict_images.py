"""Classes of single images, prepared just as the model's evaluation data was."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dlkit.config import LoadedConfig, load_mapping
from dlkit.core.data import EXTENSIONS, build_eval_transform, load_image, mode_for, prepare_image
from dlkit.core.evaluation.answers import Answer, answer_all
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device
from dlkit.core.trained_config import refuse_own_code
from dlkit.errors import DataError, UsageError
from dlkit.events import Emit, Note, Throttle, Working, ignore
from dlkit.tasks import TRAITS


@dataclass(frozen=True)
class ImagePrediction:
    """What a model says of an image file."""

    path: Path
    answer: Answer


def predict_images(
    file: ModelFile,
    paths: Sequence[Path],
    *,
    topk: int = 5,
    model: str | None = None,
    device: str = "auto",
    batch_size: int = 64,
    emit: Emit = ignore,
) -> Iterator[ImagePrediction]:
    """Yields predictions for images and for all images below folders, in order. A file that cannot be read does not stop the others.

    Raises UsageError when the model does not take images or says a class for each pixel (`predict_maps`), DataError for a file that
    is missing.
    """
    refuse_maps(file)
    prepare, found = image_preparation(file), find_images(paths)
    target = pick_model_device(file, device)
    network = build_from_file(file, model=model).to(target)
    for part in told_parts(found, batch_size, emit):
        answers = answer_all(network, [prepare(path) for path in part], file.spec.info, topk=topk, device=target)
        yield from map(ImagePrediction, part, answers)


def told_parts(paths: Sequence[Path], size: int, emit: Emit) -> Iterator[Sequence[Path]]:
    """Yields so many files at a time, reported on a timer."""
    throttle = Throttle()
    for start in range(0, len(paths), size):
        if throttle.is_due():
            emit(Working("predicting", start, len(paths)))
        yield paths[start : start + size]


def refuse_maps(file: ModelFile) -> None:
    """Raise UsageError for a model of maps, for which there is no answer in words."""
    if TRAITS[file.spec.info.task].has_maps:
        raise UsageError(f"{file.path} says a class for each pixel: name images or folders of them")


def sample_images(
    file: ModelFile, folder: Path, *, count: int, seed: int, emit: Emit, batch_size: int = 32
) -> list[Tensor]:
    """Returns batches of inputs made of at most `count` images below a folder, drawn by `seed`; what cannot be read is noted.

    Raises as `predict_images` does, and DataError where none can be read.
    """
    prepare, found = image_preparation(file), find_images([folder])
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    loaded = [prepare(found[place]) for place in order]
    images = [image for image in loaded if isinstance(image, Tensor)]
    problems = [problem for problem in loaded if isinstance(problem, str)]
    if not images:
        raise DataError(f"{folder}: none of the images can be read; the first: {problems[0]}")
    if problems:
        emit(Note(f"{len(problems)} of {len(loaded)} images cannot be read and are left out, such as: {problems[0]}"))
    return [torch.stack(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]


def image_preparation(file: ModelFile) -> Callable[[str | Path], Tensor | str]:
    """Returns what makes the model's input of an image file, or tells what is wrong with it. Raises UsageError for other inputs."""
    info = file.spec.info
    if info.kind != "image":
        raise UsageError(f"{file.path} takes {info.kind}, not images; use `dlkit eval MODEL --data CFG`")
    mode, transform = mode_for(info), eval_transform_of(file)

    def prepare(path: str | Path) -> Tensor | str:
        try:
            return prepare_image(load_image(path, mode=mode), info, transform=transform)
        except DataError as error:
            return str(error)

    return prepare


def eval_transform_of(file: ModelFile) -> Callable[[Tensor], Tensor] | None:
    """Returns the evaluation transforms of the config that a model file was trained with; a file never names foreign code.

    None for a file without a config, such as one that `dlkit convert` wrote.
    """
    loaded = eval_config_of(file)
    return build_eval_transform(loaded, file.spec.info) if loaded else None


def eval_config_of(file: ModelFile) -> LoadedConfig | None:
    """Returns the config that a model file was trained with, None for a file without one. Raises UsageError where its evaluation
    transforms are foreign code.
    """
    if not file.spec.config:
        return None
    loaded = load_mapping(dict(file.spec.config))
    names = [transform.name for transform in loaded.config.data.eval_transforms]
    refuse_own_code(file, names, what="the transform ", way_out="use dlkit.load_model")
    return loaded


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
