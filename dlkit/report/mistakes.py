"""The samples that a run is most wrong about, as pictures where they are images and their data can be had."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from dlkit.errors import DlkitError, first_line
from dlkit.report.blocks import Block, Cell, Gallery, Picture, Sheet, Words
from dlkit.report.words import number_cell, share_cell
from dlkit.run_folders import StoredEvaluation

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_SIDE = 160  # pixels
SMALL_SIDE = 64  # of pictures that are kept without loss
_TITLES = {"worst": "The highest loss", "certain": "Wrong and most certain"}

Pictures = Mapping[int, str]


def mistake_blocks(found: StoredEvaluation, pictures: Pictures, problem: str) -> list[Block]:
    """Returns the worst samples and the most certain mistakes: pictures by position where there are any, else tables.

    `problem` says why there are no pictures of samples that are images; empty for others.
    """
    blocks: list[Block] = [Words(problem)] if problem else []
    for name, title in _TITLES.items():
        samples: Sequence[Mapping[str, Any]] = getattr(found, name)
        if samples:
            blocks.append(_gallery(title, samples, pictures) if pictures else _sheet(title, samples))
    if found.task == "classification" and found.worst and not found.certain:
        blocks.append(Words(f"None of the {found.num_samples:,} {found.split} samples is predicted wrong."))
    return blocks


def _gallery(title: str, samples: Sequence[Mapping[str, Any]], pictures: Pictures) -> Gallery:
    shown = []
    for sample in samples:
        share = "" if sample["probability"] is None else f" {sample['probability']:.1%}"
        lines = (f"is {sample['true']}", f"said {sample['predicted']}{share}", f"loss {sample['loss']:.3g}")
        shown.append(Picture(pictures.get(sample["position"], ""), PurePath(sample["name"]).name, lines))
    return Gallery(title, shown)


def _sheet(title: str, samples: Sequence[Mapping[str, Any]]) -> Sheet:
    has_share = any(sample["probability"] is not None for sample in samples)
    rows = [
        (
            Cell(sample["name"]),
            Cell(sample["true"]),
            Cell(sample["predicted"]),
            *((share_cell(sample["probability"]),) if has_share else ()),
            number_cell(sample["loss"]),
        )
        for sample in samples
    ]
    return Sheet(("sample", "true", "predicted", *(("probability",) if has_share else ()), "loss"), rows, title=title)


def draw_pictures(model_path: Path, found: StoredEvaluation) -> tuple[Pictures, str]:
    """Returns pictures as data URLs by position, and why there are none; both are empty where samples are no images.

    It reads the data that the model file names, with torch, and never code of the user's own.
    """
    positions = sorted({sample["position"] for sample in (*found.worst, *found.certain)})
    if not positions:
        return {}, ""
    try:
        return _draw(model_path, found.split, positions), ""
    except (DlkitError, OSError, RuntimeError, ValueError, LookupError) as error:
        return {}, f"There are no pictures, as the data cannot be read: {first_line(error, 300)}"


def _draw(model_path: Path, split: Any, positions: list[int]) -> Pictures:
    from dlkit.core.data import build_eval_split
    from dlkit.core.devices import pick_device
    from dlkit.core.evaluation import pictures_of
    from dlkit.core.modelfile import read_model_file
    from dlkit.core.trained_config import own_config

    file = read_model_file(model_path)
    if file.spec.info.kind != "image":
        return {}
    data = build_eval_split(own_config(file), file.spec.info, split=split, device=pick_device("cpu"))
    return {place: _data_url(picture) for place, picture in pictures_of(data, positions, file.spec.info).items()}


def _data_url(picture: Any) -> str:
    """A picture of numbers from 0 to 1, (H, W, 3) or (H, W), small and as text."""
    from PIL.Image import fromarray

    image = fromarray((picture * 255).round().byte().numpy())
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    is_small = max(image.size) <= SMALL_SIDE
    kind, save = ("png", _as_png) if is_small else ("jpeg", _as_jpeg)
    return f"data:image/{kind};base64,{_encoded(image, save)}"


def _encoded(image: "Image", save: Callable[["Image", io.BytesIO], None]) -> str:
    buffer = io.BytesIO()
    save(image, buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def _as_png(image: "Image", buffer: io.BytesIO) -> None:
    image.save(buffer, "PNG", optimize=True)


def _as_jpeg(image: "Image", buffer: io.BytesIO) -> None:
    image.save(buffer, "JPEG", quality=80)
