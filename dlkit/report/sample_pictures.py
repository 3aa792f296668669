"""Samples as pictures in a page: what the network got, and of maps also the classes of the pixels, where their data can be had."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.errors import DlkitError, first_line
from dlkit.run_folders import StoredEvaluation
from dlkit.tasks import TRAITS

if TYPE_CHECKING:
    from PIL.Image import Image

    from dlkit.core.data import Split
    from dlkit.core.modelfile import ModelFile

LARGEST_SIDE = 160  # pixels
SMALL_SIDE = 64  # of pictures that are kept without loss


@dataclass(frozen=True)
class Drawings:
    """Samples as pictures: data URLs by position, one of each or as many as there are `heads`, and a legend, as in `Gallery`. `problem`
    says why there are none of samples that are images.
    """

    sources: Mapping[int, Sequence[str]] = field(default_factory=dict)
    problem: str = ""
    heads: Sequence[str] = ()
    legend: Sequence[tuple[str, str]] = ()


def draw_pictures(model_path: Path, found: StoredEvaluation) -> Drawings:
    """Returns pictures of the samples that an evaluation names; none, without a problem, where samples are no images.

    It reads the data that the model file names, with torch, and never code of the user's own; of maps the network runs once more.
    """
    positions = sorted({sample["position"] for sample in (*found.worst, *found.certain)})
    if not positions:
        return Drawings()
    try:
        return _draw(model_path, found.split, positions)
    except (DlkitError, OSError, RuntimeError, ValueError, LookupError) as error:
        return Drawings(problem=f"There are no pictures, as the data cannot be read: {first_line(error, 300)}")


def _draw(model_path: Path, split: Any, positions: list[int]) -> Drawings:
    from dlkit.core.data import build_eval_split
    from dlkit.core.devices import pick_device
    from dlkit.core.evaluation import pictures_of
    from dlkit.core.modelfile import read_model_file
    from dlkit.core.trained_config import own_config

    file = read_model_file(model_path)
    info = file.spec.info
    if info.kind != "image":
        return Drawings()
    data = build_eval_split(own_config(file), info, split=split, device=pick_device("cpu"))
    if TRAITS[info.task].has_maps:
        return _draw_maps(file, data, positions)
    return Drawings({place: [_picture_url(picture)] for place, picture in pictures_of(data, positions, info).items()})


def _draw_maps(file: "ModelFile", split: "Split", positions: Sequence[int]) -> Drawings:
    from dlkit.core.evaluation import MAP_HEADS, NOT_COUNTED, RIGHT, WRONG, class_colors, classes_seen, look_at_maps
    from dlkit.core.modelfile import build_from_file

    info = file.spec.info
    if file.spec.arch.registry == "user":
        return Drawings(
            problem=f"There are no pictures, as {file.spec.arch.name} is your own code, which a file never runs."
        )
    seen = look_at_maps(build_from_file(file), split, positions, info)
    colors, names = class_colors(file.spec.config, info.num_outputs), info.classes or range(info.num_outputs)
    sources = {
        place: [
            _picture_url(one.picture),
            *(_map_url(classes, colors) for classes in (one.target, one.predicted)),
            _map_url(one.error, (RIGHT, WRONG)),
        ]
        for place, one in seen.items()
    }
    legend = [(str(names[number]), colors[number]) for number in classes_seen(list(seen.values()))]
    legend += [("right", RIGHT), ("wrong", WRONG), ("not counted", NOT_COUNTED)]
    return Drawings(sources, heads=MAP_HEADS, legend=[(name, "#" + bytes(color).hex()) for name, color in legend])


def _picture_url(picture: Any) -> str:
    """A picture of numbers from 0 to 1, (H, W, 3) or (H, W), small and as text."""
    from PIL.Image import fromarray

    image = fromarray((picture * 255).round().byte().numpy())
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return _as_png(image) if max(image.size) <= SMALL_SIDE else _as_jpeg(image)


def _map_url(classes: Any, colors: Sequence[tuple[int, int, int]]) -> str:
    """A map of classes (H, W), small and as text, whose pixels stay classes."""
    from PIL.Image import Resampling, fromarray

    from dlkit.core.evaluation import NOT_COUNTED

    image = fromarray(
        classes.clamp(max=len(colors)).byte().numpy()
    )  # what is not counted is the number after the last class
    image.putpalette([part for color in (*colors, NOT_COUNTED) for part in color])
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Resampling.NEAREST)
    return _as_png(image)


def _as_png(image: "Image") -> str:
    return _as_url(image, "png", optimize=True)


def _as_jpeg(image: "Image") -> str:
    return _as_url(image, "jpeg", quality=80)


def _as_url(image: "Image", kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
