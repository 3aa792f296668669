"""Options that several commands take, declared once."""

from pathlib import Path
from typing import Annotated

import typer

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
