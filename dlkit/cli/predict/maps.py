"""Masks of pictures: written as they are predicted, and listed with what is in them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlkit.cli.predict.listing import Line, Listing
from dlkit.errors import UsageError
from dlkit.events import Emit

if TYPE_CHECKING:
    from dlkit.core.evaluation import MapPrediction, MaskWriter
    from dlkit.core.modelfile import ModelFile

MOST_SHOWN = 20


@dataclass(frozen=True)
class MapOptions:
    """What is asked of a model of maps: folders for masks and overlays, whether pictures keep their scale, and what windows share."""

    masks: Path | None
    overlays: Path | None
    keeps_scale: bool
    overlap: float | None
    may_replace: bool

    def check(self, file: "ModelFile") -> None:
        """Raise UsageError where one is given for another model."""
        from dlkit.tasks import TRAITS

        given = {
            "--masks": self.masks,
            "--overlays": self.overlays,
            "--sliding-window": self.keeps_scale,
            "--overlap": self.overlap is not None,
        }
        name = next((name for name, value in given.items() if value), None)
        if name and not TRAITS[file.spec.info.task].has_maps:
            raise UsageError(f"{name}: {file.path} says no class for each pixel")


def maps_listing(
    file: "ModelFile", paths: list[Path], options: MapOptions, *, network: str | None, device: str, emit: Emit
) -> Listing:
    """Returns a line for each picture, whose mask is written as the line is taken."""
    from dlkit.cli.display import made_aside
    from dlkit.core.evaluation import class_colors, mask_writer, predict_maps

    info = file.spec.info
    writer = mask_writer(
        paths,
        options.masks,
        options.overlays,
        class_colors(file.spec.config, info.num_outputs),
        may_replace=options.may_replace,
    )
    found = predict_maps(
        file, paths, keeps_scale=options.keeps_scale, overlap=options.overlap, model=network, device=device, emit=emit
    )
    return Listing(
        unit="images",
        place_is="image",
        header=("image",),
        names=("classes", "shares"),
        what="pixels",
        lines=_lines(made_aside(found), writer),
        are_pictures=True,
        most_shown=MOST_SHOWN,
        written=tuple(folder for folder in (options.masks, options.overlays) if folder),
    )


def _lines(found: "Iterable[MapPrediction]", writer: "MaskWriter") -> Iterator[Line]:
    for one in found:
        place = {"image": str(one.path)}
        if one.picture is not None and one.mask is not None:
            place |= writer.write(one.path, one.picture, one.mask)
        yield Line(place, str(one.path), (str(one.path),), one.answer)
