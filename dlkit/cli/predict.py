"""`dlkit predict`: what a model says of images."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.cli.options import ArchName, Device, ImageSize, ModelFile, Network, NumClasses, WeightsData
from dlkit.errors import DataError

if TYPE_CHECKING:
    from dlkit.core.evaluation import ImagePrediction

MOST_SHOWN = 10


def predict(
    model: ModelFile,
    images: Annotated[
        list[Path], typer.Argument(help="Images, or folders of them.", metavar="IMAGE...", show_default=False)
    ],
    topk: Annotated[int, typer.Option("--topk", min=1, help="Classes to show per image.")] = 5,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    network: Network = None,
    data: WeightsData = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per image.")] = False,
) -> None:
    """Predict the classes of images. They are resized and normalized as the model's own evaluation data was."""
    from dlkit.cli.display import made_aside, open_display, prints_aside
    from dlkit.config import load_data_option
    from dlkit.core.evaluation import predict_images
    from dlkit.core.opening import Naming, open_model

    loaded = load_data_option(data) if data else None
    with prints_aside(), open_display(quiet=as_json, verbose=False, as_json=False) as display:
        file = open_model(
            model, Naming(arch, num_classes, image_size, network), data=loaded, uses_data=False, emit=display.emit
        )
    found = predict_images(file, images, topk=topk, model=network, device=device)
    predictions = made_aside(found)
    problems = _show_json(predictions) if as_json else _show_rows(predictions)
    if problems:
        more = f"\n  and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        raise DataError(
            f"{len(problems)} of the files cannot be read as images:\n  " + "\n  ".join(problems[:MOST_SHOWN]) + more
            if len(problems) > 1
            else problems[0]
        )


def _show_json(predictions: "Iterable[ImagePrediction]") -> list[str]:
    """One object per image; the problems met."""
    problems = []
    for prediction in predictions:
        classes = [{"class": name, "probability": value} for name, value in prediction.classes]
        result: dict[str, Any] = {"predictions": classes} if classes else {"values": prediction.values}
        if prediction.problem:
            problems.append(prediction.problem)
            result = {"error": prediction.problem}
        typer.echo(json.dumps({"schema": "dlkit.predict/1", "image": str(prediction.path), **result}))
    return problems


def _show_rows(predictions: "Iterable[ImagePrediction]") -> list[str]:
    """A table of all images that could be read; the problems met."""
    from dlkit.cli.console import show_table

    rows, problems = [], []
    for prediction in predictions:
        if prediction.problem:
            problems.append(prediction.problem)
            continue
        ranked = [f"{name} {value:.1%}" for name, value in prediction.classes] or [
            f"{value:.5g}" for value in prediction.values
        ]
        rows.append((str(prediction.path), ranked[0], ", ".join(ranked[1:])))
    if rows:
        show_table(("image", "prediction", "then"), rows, left=3)
    return problems
