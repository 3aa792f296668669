"""Options that several commands take, declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class SplitChoice(StrEnum):
    """The splits that can be scored."""

    test = "test"
    val = "val"
    train = "train"


Config = Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="CFG", show_default=False)]
Overlays = Annotated[
    list[Path] | None,
    typer.Option(
        "-c", "--config", help="Another YAML file laid over the first; may be given again.", show_default=False
    ),
]
RunDevice = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps.", show_default=False)]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.", show_default=False)]
ModelFile = Annotated[
    Path,
    typer.Argument(
        help="Model file, as `dlkit train` writes it; or weights, with --arch or --model.",
        metavar="MODEL",
        show_default=False,
    ),
]
OwnModelFile = Annotated[
    Path, typer.Argument(help="Model file, as `dlkit train` writes it.", metavar="MODEL", show_default=False)
]
Network = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The class of a model of your own: pkg.mod:Net or ./net.py:Net.",
        metavar="NET",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
ArchName = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="The network of weights from elsewhere: torchvision:resnet18.",
        metavar="NAME",
        show_default=False,
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        "--num-classes", min=1, help="Classes of such weights; default is what they tell.", show_default=False
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        min=1,
        help="Height and width of the images that such a network takes; default is what the data or its authors say.",
        show_default=False,
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Config with other data, or imagefolder:PATH; default is what the model was trained on.",
        metavar="CFG",
        show_default=False,
    ),
]
