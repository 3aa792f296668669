"""The options that only `dlkit quantize` takes."""

from pathlib import Path
from typing import Annotated

import typer

from dlkit.choices import AskedBackend, AskedReduce, Int8Export, Observer, QatKeep, SplitName
from dlkit.cli.options import output_option, seconds_option

IMAGES = "images:"  # before a folder of pictures without labels, in --data

Dynamic = Annotated[bool, typer.Option("--dynamic", help="int8 weights of linear and recurrent layers; needs no data.")]
Static = Annotated[bool, typer.Option("--static", help="int8 weights and activations, calibrated on training samples.")]
Qat = Annotated[bool, typer.Option("--qat", help="Fine-tune with int8 in mind, then convert; the most accurate.")]
Calib = Annotated[
    int | None,
    typer.Option(
        "--calib",
        min=1,
        help="Samples to calibrate on, drawn by seed; default is 512.",
        metavar="N",
        show_default=False,
    ),
]
BackendOption = Annotated[
    AskedBackend, typer.Option("--backend", help="Engine of the int8 kernels; auto fits this CPU.")
]
ObserverOption = Annotated[Observer, typer.Option("--observer", help="How the ranges of activations are found.")]
PerTensor = Annotated[
    bool, typer.Option("--per-tensor", help="One scale per weight tensor, not one per output channel.")
]
ReduceOption = Annotated[
    AskedReduce,
    typer.Option("--reduce", help="What takes 7 bits where kernels of this backend could saturate with 8."),
]
NoCorrection = Annotated[
    bool, typer.Option("--no-bias-correction", help="Leave the mean error of each layer in its output.")
]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-float",
        help="Modules to leave in float, as a glob; first and last are the outermost layers. May be given again.",
        metavar="GLOB",
        show_default=False,
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        min=0,
        help="Keep the most sensitive layers in float until accuracy (or mAP, mIoU) on validation drops by at most this.",
        metavar="POINTS",
        show_default=False,
    ),
]
Sensitivity = Annotated[
    bool, typer.Option("--sensitivity", help="Rank the layers by what int8 costs in each; writes no model.")
]
Epochs = Annotated[
    float | None,
    typer.Option(
        "--epochs",
        min=0,
        help="Epochs of --qat, may be a fraction of one; default is 2.",
        metavar="N",
        show_default=False,
    ),
]
Lr = Annotated[float | None, typer.Option("--lr", help="Learning rate of --qat.", show_default=False)]
Distill = Annotated[bool, typer.Option("--distill", help="The float network teaches the int8 one in --qat.")]
Keep = Annotated[
    QatKeep,
    typer.Option(
        "--keep",
        help="What --qat writes: the better on validation of what was trained and static int8, or always the former.",
    ),
]
Export = Annotated[
    Int8Export | None,
    typer.Option("--export", help="Also write the int8 network in this format.", show_default=False),
]
SplitOption = Annotated[
    SplitName | None, typer.Option("--split", help="Which split to judge on; default is test.", show_default=False)
]
Seconds = Annotated[float, seconds_option(0.1)]
Output = Annotated[Path | None, output_option("The int8 model file.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Which samples calibrate, and the order of --qat.")]
