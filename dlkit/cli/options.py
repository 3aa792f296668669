"""Options that several commands take, declared once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from dlkit.cli.completion import complete_configs, complete_models, complete_overrides

Config = Annotated[
    Path,
    typer.Argument(help="YAML file of the run.", metavar="CFG", show_default=False, autocompletion=complete_configs),
]
Overlays = Annotated[
    list[Path] | None,
    typer.Option(
        "-c",
        "--config",
        help="Another YAML file laid over the first; may be given again.",
        metavar="FILE",
        show_default=False,
        autocompletion=complete_configs,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Changes: optimizer=sgd, data.batch_size=256, ~ema.",
        metavar="[KEY=VALUE]...",
        show_default=False,
        autocompletion=complete_overrides,
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
        autocompletion=complete_models,
    ),
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
        help="The network of weights from elsewhere: torchvision:resnet18, timm/test_vit.",
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
        help="Config with other data, or imagefolder:PATH, npz:PATH, hf:NAME; default is what the model was trained on.",
        metavar="CFG",
        show_default=False,
        autocompletion=complete_configs,
    ),
]
WeightsData = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Config, imagefolder:PATH, npz:PATH or hf:NAME that tells what weights from elsewhere take.",
        metavar="CFG",
        show_default=False,
        autocompletion=complete_configs,
    ),
]
NoLatency = Annotated[bool, typer.Option("--no-latency", help="Measure no latency.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
Overlap = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        help="Share of a window that its neighbour covers too, 0 to 0.9; default is 0.5.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def options_as_overrides(values: Mapping[str, object]) -> list[str]:
    """Options that set keys of the config as overrides, so that they are checked in the same way."""
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def seconds_option(least: float) -> OptionInfo:
    """`--seconds`, which every command bounds by itself."""
    info: OptionInfo = typer.Option("--seconds", min=least, help="Time for measuring latency, for each batch size.")
    return info


def output_option(text: str) -> OptionInfo:
    """`--output`: a file, and what it is."""
    info: OptionInfo = typer.Option("-o", "--output", help=text, metavar="FILE", show_default=False)
    return info
