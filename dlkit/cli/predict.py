"""`dlkit predict`: what a model says of images."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dlkit.cli.options import Device, Network, OwnModelFile


def predict(
    model: OwnModelFile,
    images: Annotated[
        list[Path], typer.Argument(help="Images, or folders of them.", metavar="IMAGE...", show_default=False)
    ],
    topk: Annotated[int, typer.Option("--topk", min=1, help="Classes to show per image.")] = 5,
    network: Network = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per image.")] = False,
) -> None:
    """Predict the classes of images. They are resized and normalized as the model's own evaluation data was."""
    from dlkit.core.evaluation.image_predictions import predict_images
    from dlkit.core.modelfile import read_model_file

    predictions = predict_images(read_model_file(model), images, topk=topk, model=network, device=device)
    if as_json:
        for prediction in predictions:
            classes = [{"class": name, "probability": value} for name, value in prediction.classes]
            result = {"predictions": classes} if classes else {"values": prediction.values}
            typer.echo(json.dumps({"schema": "dlkit.predict/1", "image": str(prediction.path), **result}))
        return
    from dlkit.cli.console import show_table

    rows = []
    for prediction in predictions:
        ranked = [f"{name} {value:.1%}" for name, value in prediction.classes] or [
            f"{value:.5g}" for value in prediction.values
        ]
        rows.append((str(prediction.path), ranked[0], ", ".join(ranked[1:])))
    show_table(("image", "prediction", "then"), rows, left=3)
