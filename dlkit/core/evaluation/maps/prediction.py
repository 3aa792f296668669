"""Masks of whole pictures: a class for each pixel, at the size of the picture itself."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dlkit.core.data import DataInfo, Mode, WholePicture, load_image, mode_for, whole_picture
from dlkit.core.devices import torch_settings
from dlkit.core.evaluation.answers import Answer, pixel_answer
from dlkit.core.evaluation.maps.windows import Mosaic, pick_overlap
from dlkit.core.evaluation.predict_images import eval_config_of, find_images, told_parts
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device
from dlkit.core.scoring import SCORES
from dlkit.errors import DataError
from dlkit.events import Emit, ignore

MOST_WINDOWS, MOST_PIXELS = 64, 2**21  # that a network sees at once
PICTURES_AT_ONCE = 16  # that are read before the first of them is answered


@dataclass(frozen=True)
class MapPrediction:
    """What a model says of an image file: the picture, uint8 (C, H, W), the class of each of its pixels, uint8 (H, W), and the share
    of each class. Of a file that cannot be read there is the problem alone.
    """

    path: Path
    answer: Answer
    picture: Tensor | None = None
    mask: Tensor | None = None


def predict_maps(
    file: ModelFile,
    paths: Sequence[Path],
    *,
    keeps_scale: bool = False,
    overlap: float | None = None,
    model: str | None = None,
    device: str = "auto",
    emit: Emit = ignore,
) -> Iterator[MapPrediction]:
    """Yields maps for images and for all images below folders, in order, each at its own size and turned as its EXIF data say.

    A picture is scaled as evaluation scales it, or not at all with `keeps_scale`; where it is larger than what the network was trained
    on, windows of that size cover it, of which two neighbours share the `overlap`, half if not said. A file that cannot be read does
    not stop the others. Raises UsageError for a model of no images, DataError for a file that is missing.
    """
    overlap = pick_overlap(overlap)
    info, found = file.spec.info, find_images(paths)
    mode, prepare = mode_for(info), whole_picture(eval_config_of(file), info, keeps_scale=keeps_scale)
    target = pick_model_device(file, device)
    predictor = MapPredictor(build_from_file(file, model=model).to(target), prepare, overlap, target)
    for part in told_parts(found, PICTURES_AT_ONCE, emit):
        pictures = [_read(path, mode) for path in part]
        masks = predictor.maps(picture for picture in pictures if isinstance(picture, Tensor))
        for path, picture in zip(part, pictures, strict=True):
            if isinstance(picture, str):
                yield MapPrediction(path, Answer([], [], problem=picture))
            else:
                mask = next(masks)
                yield MapPrediction(path, pixel_answer(mask, info), picture, mask)


def _read(path: Path, mode: Mode) -> Tensor | str:
    try:
        return load_image(path, mode=mode)
    except DataError as error:
        return str(error)


@dataclass(frozen=True)
class MapPredictor:
    """A network in evaluation mode, how pictures are prepared for it, and the share of each window that the next one sees too."""

    network: nn.Module
    prepare: WholePicture
    overlap: float
    device: torch.device

    @property
    def info(self) -> DataInfo:
        """What the network knows of its data."""
        return self.prepare.info

    def maps(self, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yields the class of each pixel, uint8 (H, W), of decoded pictures (C, H, W) of any sizes; some are read ahead."""
        _, height, width = self.info.input_size
        at_once = max(1, min(MOST_WINDOWS, MOST_PIXELS // (height * width)))
        waiting: list[tuple[Mosaic, tuple[int, int]]] = []
        count = 0
        for picture in pictures:
            mosaic = Mosaic(self.prepare(picture), (height, width), self.overlap)
            waiting.append((mosaic, (picture.shape[-2], picture.shape[-1])))
            count += len(mosaic.corners)
            if count >= at_once:
                yield from self._solve(waiting, at_once)
                waiting, count = [], 0
        yield from self._solve(waiting, at_once)

    def _solve(self, waiting: list[tuple[Mosaic, tuple[int, int]]], at_once: int) -> Iterator[Tensor]:
        windows = [(mosaic, corner) for mosaic, _ in waiting for corner in mosaic.corners]
        for start in range(0, len(windows), at_once):
            part = windows[start : start + at_once]
            found = self._probabilities(torch.stack([mosaic.window(corner) for mosaic, corner in part]))
            for (mosaic, corner), probabilities in zip(part, found, strict=True):
                mosaic.add(corner, probabilities)
        yield from (mosaic.classes(size) for mosaic, size in waiting)

    def _probabilities(self, inputs: Tensor) -> Tensor:
        # torch's modes are set here and not around a loop, where they would reach the caller at every yield
        with torch_settings(), torch.inference_mode():
            found = SCORES[self.info.task](self.info).probabilities(self.network(inputs.to(self.device)).float())
        assert found is not None
        return found.cpu()
