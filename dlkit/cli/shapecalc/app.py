"""The sub-commands of `dlkit shapecalc`, gathered."""

from typing import ClassVar

import typer

from dlkit.cli.lazy_group import LazyGroup


class Calculations(LazyGroup):
    """All sub-commands."""

    places: ClassVar = {
        "conv": ("dlkit.cli.shapecalc.spatial", "Convolution in one, two or three dimensions."),
        "tconv": ("dlkit.cli.shapecalc.spatial", "Transposed convolution; --explain takes it apart on a small grid."),
        "maxpool": ("dlkit.cli.shapecalc.spatial", "Max pooling."),
        "avgpool": (
            "dlkit.cli.shapecalc.spatial",
            "Average pooling; --count-include-pad and --divisor-override change values, never sizes.",
        ),
        "lppool": ("dlkit.cli.shapecalc.spatial", "Power-average pooling; it takes no padding."),
        "unpool": ("dlkit.cli.shapecalc.spatial", "Max unpooling, the partial inverse of max pooling."),
        "adaptive": ("dlkit.cli.shapecalc.spatial", "Adaptive pooling, with the window of every output listed."),
        "upsample": ("dlkit.cli.shapecalc.spatial", "Upsampling and F.interpolate, up or down."),
        "pixelshuffle": (
            "dlkit.cli.shapecalc.spatial",
            "Pixel shuffle: channels become positions; --down is the inverse.",
        ),
        "linear": ("dlkit.cli.shapecalc.dense", "Linear layer; it acts on the last axis."),
        "flatten": ("dlkit.cli.shapecalc.dense", "Flatten: the in_features of the linear layer behind it."),
        "norm": ("dlkit.cli.shapecalc.dense", "Norm layers: they keep the shape and cost parameters."),
        "unfold": ("dlkit.cli.shapecalc.dense", "Unfold: every block of an image as one column."),
        "fold": ("dlkit.cli.shapecalc.dense", "Fold: columns summed back into an image."),
        "solve": (
            "dlkit.cli.shapecalc.solving",
            "Solve backwards: which kernel, stride, padding, dilation or input gives this output.",
        ),
        "chain": (
            "dlkit.cli.shapecalc.networks",
            "A chain of layers: shapes, costs and receptive field per layer; joins are checked. Exit 1 on a mismatch.",
        ),
        "sizes": (
            "dlkit.cli.shapecalc.sizes",
            "Which input sizes pass through a chain or a model, and the divisor rule behind them. Exit 1 if none does.",
        ),
        "model": (
            "dlkit.cli.shapecalc.models",
            "A network's layers, parameters, MACs and memory, without taking any memory.",
        ),
    }


app = typer.Typer(
    name="shapecalc",
    cls=Calculations,
    help="Layer arithmetic: sizes, parameters, MACs, receptive fields; forwards, backwards, in chains and models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def options() -> None:
    """None of its own; typer wants a function for a group whose commands it does not know."""
