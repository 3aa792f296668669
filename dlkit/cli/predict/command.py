"""`dlkit predict`: what a model says of images, or of the rows of a table or an array."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.cli.options import ArchName, Device, Force, ImageSize, ModelFile, Network, NumClasses, Overlap, WeightsData
from dlkit.cli.plain_help import PlainCommand
from dlkit.cli.predict.listing import Line, Listing, write_or_show
from dlkit.cli.predict.maps import MapOptions, maps_listing
from dlkit.errors import OutputError, UsageError
from dlkit.events import Emit

if TYPE_CHECKING:
    from dlkit.core.data import DataInfo
    from dlkit.core.evaluation import RowPredictions
    from dlkit.core.modelfile import ModelFile as LoadedModel

MOST_ROWS = 20


Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="Images, or folders of them; or one table, npz or npy file.", metavar="FILE...", show_default=False
    ),
]
TopK = Annotated[
    int, typer.Option("--topk", min=1, help="Classes to show per image or row; of labels all are shown that are found.")
]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Write all predictions to this csv or jsonl file.", metavar="FILE", show_default=False
    ),
]
Probs = Annotated[bool, typer.Option("--probs", help="Tell the probability of every class; with --out or --json.")]
Masks = Annotated[
    Path | None,
    typer.Option(
        "--masks", help="Of a model of maps: write masks as PNG to this folder.", metavar="DIR", show_default=False
    ),
]
Overlays = Annotated[
    Path | None,
    typer.Option(
        "--overlays",
        help="Of a model of maps: write pictures in the colours of their masks to this folder.",
        metavar="DIR",
        show_default=False,
    ),
]
SlidingWindow = Annotated[
    bool,
    typer.Option("--sliding-window", help="Of a model of maps: leave pictures at their own sizes."),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(
        "--image-column",
        help="Column of picture files in a table; default is that of the table which the model was trained on.",
        metavar="NAME",
        show_default=False,
    ),
]


JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object per image or row.")]


@dataclass(frozen=True)
class _Asked:
    """How to predict."""

    topk: int
    network: str | None
    device: str
    image_column: str | None
    maps: MapOptions


app = typer.Typer()


@app.command("predict", cls=PlainCommand, no_args_is_help=True)
def predict(
    model: ModelFile, inputs: Inputs, topk: TopK = 5, out: OutFile = None, probs: Probs = False, image_column: ImageColumn = None,
    masks: Masks = None, overlays: Overlays = None, sliding_window: SlidingWindow = False, overlap: Overlap = None,
    arch: ArchName = None, num_classes: NumClasses = None, image_size: ImageSize = None, force: Force = False,
    network: Network = None, data: WeightsData = None, device: Device = "auto", as_json: JsonLines = False,
) -> None:  # fmt: skip
    """Predict classes, values or masks of images, of rows of a table or of an array, prepared as the model's own evaluation data was."""
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.config import load_data_option
    from dlkit.core.opening import Naming, open_model

    if out is not None:
        _check_out(out, inputs, may_replace=force)
    if probs and out is None and not as_json:
        raise UsageError("--probs goes into a file or JSON: add --out FILE or --json")
    loaded = load_data_option(data) if data else None
    with prints_aside(), open_display(quiet=as_json, verbose=False, as_json=False) as display:
        file = open_model(
            model, Naming(arch, num_classes, image_size, network), data=loaded, uses_data=False, emit=display.emit
        )
    shares_of = _classes_of(file) if probs else ()
    maps = MapOptions(masks, overlays, sliding_window, overlap, force)
    maps.check(file)
    asked = _Asked(max(topk, len(shares_of)), network, device, image_column, maps)
    with open_display(quiet=as_json, verbose=False, as_json=False) as display:
        listing = _listing_for(file, inputs, asked, display.emit)
        if not as_json:  # which is printed as it comes, and without progress
            listing = replace(listing, lines=iter(list(listing.lines)))
    write_or_show(listing, out, shares_of, as_json=as_json)


def _check_out(out: Path, inputs: list[Path], *, may_replace: bool) -> None:
    from dlkit.files import check_ending, check_output

    check_ending(out, (".csv", ".jsonl"))
    check_output(out, may_replace=may_replace)
    if any(path.exists() and out.exists() and path.samefile(out) for path in inputs):
        raise OutputError(f"{out} is what is predicted; give another name with --out")


def _classes_of(file: "LoadedModel") -> tuple[str, ...]:
    info = file.spec.info
    if info.task != "classification" or info.num_outputs < 2:
        raise UsageError(f"--probs: {file.path} is no model of classes")
    return info.class_names


def _are_rows(file: "LoadedModel", inputs: list[Path], asked: _Asked) -> bool:
    """Whether the inputs are one file of rows. Raises UsageError for such a file among others."""
    from dlkit.core.data import is_array_file, is_table_file

    is_row_file = [is_array_file(path) or is_table_file(path) for path in inputs]
    if file.spec.info.kind == "image" and asked.image_column is None and not any(is_row_file):
        return False
    if len(inputs) != 1 or inputs[0].is_dir():
        raise UsageError("rows are taken from one file alone: a table with its columns, an npz or an npy file")
    return True


def _listing_for(file: "LoadedModel", inputs: list[Path], asked: _Asked, emit: Emit) -> Listing:
    from dlkit.tasks import TRAITS

    if _are_rows(file, inputs, asked):
        return _rows(file, inputs, asked, emit)
    if TRAITS[file.spec.info.task].has_maps:
        return maps_listing(file, inputs, asked.maps, network=asked.network, device=asked.device, emit=emit)
    return _images(file, inputs, asked, emit)


def _images(file: "LoadedModel", paths: list[Path], asked: _Asked, emit: Emit) -> Listing:
    from dlkit.cli.display import made_aside
    from dlkit.core.evaluation import has_shares, predict_images

    found = made_aside(
        predict_images(file, paths, topk=asked.topk, model=asked.network, device=asked.device, emit=emit)
    )
    info = file.spec.info
    return Listing(
        unit="images",
        place_is="image",
        header=("image",),
        names=("prediction", "probability") if has_shares(info) else _predicted(info),
        what="prediction" if has_shares(info) else _words(info),
        lines=(Line({"image": str(one.path)}, str(one.path), (str(one.path),), one.answer) for one in found),
        are_pictures=True,
    )


def _rows(file: "LoadedModel", paths: list[Path], asked: _Asked, emit: Emit) -> Listing:
    from dlkit.cli.display import prints_aside
    from dlkit.core.evaluation import has_shares, predict_rows

    with prints_aside():
        found = predict_rows(
            file,
            paths[0],
            topk=asked.topk,
            image_column=asked.image_column,
            model=asked.network,
            device=asked.device,
            emit=emit,
        )
    info = file.spec.info
    return Listing(
        unit="rows",
        place_is="image" if found.images else found.number_is,
        header=found.header,
        names=(*_predicted(info), *(("probability",) if has_shares(info) else ())),
        what=_words(info),
        lines=_lines_of(found),
        are_pictures=found.images is not None,
        most_shown=MOST_ROWS,
    )


def _lines_of(found: "RowPredictions") -> Iterator[Line]:
    for place, (number, cells, answer) in enumerate(zip(found.numbers, found.rows, found.answers, strict=True)):
        where: dict[str, str | int] = {"file": str(found.path), found.number_is: number}
        title = str(number)
        if found.images:
            title = where["image"] = found.images[place]
        yield Line(where, title, cells, answer)


def _predicted(info: "DataInfo") -> tuple[str, ...]:
    from dlkit.core.evaluation import target_names

    return tuple(f"predicted_{name}" for name in target_names(info))


def _words(info: "DataInfo") -> str:
    from dlkit.core.evaluation import target_names

    return " and ".join(target_names(info))
