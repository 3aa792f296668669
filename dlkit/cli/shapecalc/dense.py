"""Layers without windows over an image: linear, flatten, norms, folding."""

from typing import Annotated, Any

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import BareCommand
from dlkit.cli.shapecalc.layer_report import report_plain
from dlkit.cli.shapecalc.options import Bias, Dilation, Kernel, Padding, parse_options, parse_shape
from dlkit.cli.shapecalc.show import print_pairs
from dlkit.shapes import Flatten, Linear, Norm, ShapeError, build_layer

app = typer.Typer()

Shaped = Annotated[str, typer.Option("--in", "--input", help="Shape of one sample: 512, or 512x7x7.")]
FoldStride = Annotated[str, typer.Option("--s", "--stride", help="Stride.")]


@app.command(cls=BareCommand)
def linear(
    input_text: Shaped,
    out: Annotated[int, typer.Option("--out", "--out-features", "--c-out", help="Output features.")],
    in_features: Annotated[
        int | None, typer.Option("--in-features", help="Checked against the input if given.")
    ] = None,
    bias: Bias = True,
    as_json: AsJson = False,
) -> None:
    """Linear layer; it acts on the last axis."""
    shape = parse_shape(input_text)
    report_plain("linear", Linear(out, in_features, bias), shape, as_json=as_json)
    if len(shape) > 1 and not as_json:
        (flat,) = Flatten().out_shape(shape)
        print_pairs([("note  ", f"acts on the last axis only ({shape[-1]}); nn.Flatten() in front makes it {flat}")])


@app.command(cls=BareCommand)
def flatten(
    input_text: Shaped,
    start_dim: Annotated[int, typer.Option(help="First axis to join; the batch is 0.")] = 1,
    end_dim: Annotated[int, typer.Option(help="Last axis to join.")] = -1,
    as_json: AsJson = False,
) -> None:
    """Flatten: the in_features of the linear layer behind it."""
    report_plain("flatten", Flatten(start_dim, end_dim), parse_shape(input_text), as_json=as_json)


@app.command(cls=BareCommand)
def norm(
    sort: Annotated[str, typer.Argument(help="batch, layer, group, instance, rms or local_response.")],
    input_text: Shaped,
    groups: Annotated[int, typer.Option("--g", "--groups", "--num-groups", help="Groups of a group norm.")] = 32,
    shape: Annotated[str | None, typer.Option("--shape", "--normalized-shape", help="For layer and rms.")] = None,
    affine: Annotated[bool | None, typer.Option("--affine/--no-affine", help="With weight and bias.")] = None,
    as_json: AsJson = False,
) -> None:
    """Norm layers: they keep the shape and cost parameters."""
    normalized = parse_shape(shape) if shape else None
    layer = Norm(sort, normalized_shape=normalized, num_groups=groups if sort == "group" else 1, affine=affine)
    report_plain("norm", layer, parse_shape(input_text), as_json=as_json)


@app.command(cls=BareCommand)
def unfold(
    k: Kernel, input_text: Shaped, s: FoldStride = "1", p: Padding = "0", d: Dilation = "1", as_json: AsJson = False
) -> None:
    """Unfold: every block of an image as one column."""
    options: dict[str, Any] = parse_options(kernel_size=k, stride=s, padding=p, dilation=d)
    report_plain("unfold", build_layer("unfold", options, dims=2), _image(input_text), as_json=as_json)


def _image(text: str) -> tuple[int, ...]:
    shape = parse_shape(text)
    if len(shape) == 4:
        return shape[1:]
    if len(shape) != 3:
        raise ShapeError(f"--in {text!r}: write channels x height x width, for example 3x224x224")
    return shape


@app.command(cls=BareCommand)
def fold(
    k: Kernel,
    out: Annotated[str, typer.Option("--out", "--output-size", help="Size of the image: 224, or 224,320.")],
    input_text: Annotated[
        str, typer.Option("--in", "--input", help="Channels times kernel positions x blocks: 27x49.")
    ],
    s: FoldStride = "1",
    p: Padding = "0",
    d: Dilation = "1",
    as_json: AsJson = False,
) -> None:
    """Fold: columns summed back into an image."""
    options: dict[str, Any] = parse_options(kernel_size=k, stride=s, padding=p, dilation=d, output_size=out)
    report_plain("fold", build_layer("fold", options, dims=2), parse_shape(input_text), as_json=as_json)
