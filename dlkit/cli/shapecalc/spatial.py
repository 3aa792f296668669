"""Layers that change the spatial axes: convolutions, pooling, resampling."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import BareCommand
from dlkit.cli.shapecalc.layer_report import AXIS_NAMES, LayerRequest, report_layer
from dlkit.cli.shapecalc.options import (
    Bias,
    CeilMode,
    ChannelsIn,
    ChannelsOut,
    Dilation,
    Dims,
    Draw,
    Groups,
    Input,
    Kernel,
    OutputPadding,
    Padding,
    Stride,
    parse_input,
    parse_options,
)
from dlkit.shapes import (
    AdaptivePool,
    ConvTranspose,
    Explained,
    Layer,
    ShapeError,
    Window,
    explain_transposed,
    explanation_lines,
    parse_numbers,
)

app = typer.Typer()

Explain = Annotated[bool, typer.Option("--explain", help="Show the steps on a small grid.")]


def _known(**numbers: int | None) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if number is not None}


@app.command(cls=BareCommand)
def conv(
    k: Kernel,
    s: Stride = "1",
    p: Padding = "0",
    d: Dilation = "1",
    g: Groups = 1,
    input_text: Input = None,
    c_in: ChannelsIn = None,
    c_out: ChannelsOut = None,
    bias: Bias = True,
    padding_mode: Annotated[str, typer.Option(help="zeros, reflect, replicate or circular.")] = "zeros",
    dims: Dims = None,
    draw: Draw = False,
    as_json: AsJson = False,
) -> None:
    """Convolution in one, two or three dimensions."""
    options: dict[str, Any] = parse_options(kernel_size=k, stride=s, padding=p, dilation=d)
    options |= {"groups": g, "bias": bias, "padding_mode": padding_mode, **_known(in_channels=c_in, out_channels=c_out)}
    report_layer(LayerRequest("conv", "conv", options, input_text, dims, as_json, draw))


@app.command(cls=BareCommand)
def tconv(
    k: Kernel,
    s: Stride = "1",
    p: Padding = "0",
    d: Dilation = "1",
    g: Groups = 1,
    op: OutputPadding = "0",
    input_text: Input = None,
    c_in: ChannelsIn = None,
    c_out: ChannelsOut = None,
    bias: Bias = True,
    dims: Dims = None,
    explain: Explain = False,
    as_json: AsJson = False,
) -> None:
    """Transposed convolution; --explain takes it apart on a small grid."""
    options: dict[str, Any] = parse_options(kernel_size=k, stride=s, padding=p, dilation=d, output_padding=op)
    options |= {"groups": g, "bias": bias, **_known(in_channels=c_in, out_channels=c_out)}
    request = LayerRequest("tconv", "tconv", options, input_text, dims, as_json, add_facts=_steps if explain else None)
    layer = report_layer(request)
    if explain and not as_json:
        rows, columns, extra, explained = _explained(layer)
        typer.echo()
        for line in explanation_lines(explained, rows, columns, extra=extra):
            typer.echo("  " + line)


def _steps(layer: Layer) -> dict[str, Any]:
    return {"explain": asdict(_explained(layer)[-1])}


def _explained(layer: Layer) -> tuple[Window, Window, tuple[int, int], Explained]:
    """A row for one dimension, a small image for two; a volume is shown by its last two axes."""
    assert isinstance(layer, ConvTranspose)
    is_row = layer.dims == 1
    rows, columns = Window(1) if is_row else layer.window(-2), layer.window(-1)
    extra = (0 if is_row else layer.output_padding[-2], layer.output_padding[-1])
    sizes = (1 if is_row else _small_size(rows, extra[0]), _small_size(columns, extra[1]))
    return rows, columns, extra, explain_transposed(rows, columns, sizes=sizes, extra=extra)


def _small_size(window: Window, output_padding: int) -> int:
    """The least size from 3 on that leaves an output."""
    for size in range(3, 17):
        if (size - 1) * window.stride - window.padding + window.span + output_padding >= 1:
            return size
    raise ShapeError(f"--explain: padding {window.pad_left} crops all of a small image; try it with less padding")


@app.command(cls=BareCommand)
def maxpool(
    k: Kernel,
    s: Stride = None,
    p: Padding = "0",
    d: Dilation = "1",
    ceil: CeilMode = False,
    input_text: Input = None,
    dims: Dims = None,
    draw: Draw = False,
    as_json: AsJson = False,
) -> None:
    """Max pooling."""
    options: dict[str, Any] = parse_options(kernel_size=k, stride=s, padding=p, dilation=d)
    report_layer(LayerRequest("maxpool", "maxpool", options | {"ceil_mode": ceil}, input_text, dims, as_json, draw))


@app.command(cls=BareCommand)
def avgpool(
    k: Kernel,
    s: Stride = None,
    p: Padding = "0",
    ceil: CeilMode = False,
    count_include_pad: Annotated[
        bool, typer.Option("--count-include-pad/--no-count-include-pad", help="Count padded positions in the mean.")
    ] = True,
    divisor_override: Annotated[int | None, typer.Option(help="Divide by this instead.")] = None,
    input_text: Input = None,
    dims: Dims = None,
    draw: Draw = False,
    as_json: AsJson = False,
) -> None:
    """Average pooling; --count-include-pad and --divisor-override change values, never sizes."""
    options: dict[str, Any] = parse_options(kernel_size=k, stride=s, padding=p)
    options |= {"ceil_mode": ceil, "count_include_pad": count_include_pad, **_known(divisor_override=divisor_override)}
    report_layer(LayerRequest("avgpool", "avgpool", options, input_text, dims, as_json, draw))


@app.command(cls=BareCommand)
def lppool(
    k: Kernel,
    s: Stride = None,
    ceil: CeilMode = False,
    norm_type: Annotated[float, typer.Option("--norm-type", help="The power of the norm.")] = 2.0,
    input_text: Input = None,
    dims: Dims = None,
    draw: Draw = False,
    as_json: AsJson = False,
) -> None:
    """Power-average pooling; it takes no padding."""
    options: dict[str, Any] = parse_options(kernel_size=k, stride=s)
    options |= {"ceil_mode": ceil, "norm_type": norm_type}
    report_layer(LayerRequest("lppool", "lppool", options, input_text, dims, as_json, draw))


@app.command(cls=BareCommand)
def unpool(
    k: Kernel,
    s: Stride = None,
    p: Padding = "0",
    output_size: Annotated[str | None, typer.Option("--out", "--output-size", help="Size asked of forward().")] = None,
    input_text: Input = None,
    dims: Dims = None,
    as_json: AsJson = False,
) -> None:
    """Max unpooling, the partial inverse of max pooling."""
    options: dict[str, Any] = parse_options(kernel_size=k, stride=s, padding=p, output_size=output_size)
    report_layer(LayerRequest("unpool", "unpool", options, input_text, dims, as_json))


@app.command(cls=BareCommand)
def adaptive(
    out: Annotated[
        str, typer.Option("--out", "--output-size", help="Output size: 7, or 7,5 per axis; none keeps an axis.")
    ],
    input_text: Input = None,
    use_max: Annotated[bool, typer.Option("--max", help="Max pooling instead of average.")] = False,
    dims: Dims = None,
    as_json: AsJson = False,
) -> None:
    """Adaptive pooling, with the window of every output listed."""
    kind = "adaptivemax" if use_max else "adaptive"
    options = {"output_size": _output_sizes(out)}
    layer = report_layer(LayerRequest("adaptive", kind, options, input_text, dims, as_json))
    if input_text and not as_json:
        assert isinstance(layer, AdaptivePool)
        _, sizes, _ = parse_input(input_text, dims=dims, options=options)
        shown = {(layer.out_size(axis, size), size): axis for axis, size in reversed(list(enumerate(sizes or ())))}
        for (outs, size), axis in reversed(shown.items()):
            _print_windows(layer.windows(axis, size), f"{outs} windows over {size}:")


def _output_sizes(text: str) -> tuple[int | None, ...]:
    """`7`, `7,5`, and `none` for an axis that keeps its size."""
    parts = text.lower().replace("x", ",").split(",")
    if "none" not in parts:
        return tuple(parse_options(output_size=text)["output_size"])
    return tuple(None if part == "none" else parse_options(output_size=part)["output_size"][0] for part in parts)


def _print_windows(windows: list[tuple[int, int]], title: str) -> None:
    shown = [f"{first}..{last} ({last - first + 1})" for first, last in windows[:24]]
    typer.echo(f"\n  {title}")
    for start in range(0, len(shown), 4):
        typer.echo("  " + "".join(f"{text:<18}" for text in shown[start : start + 4]).rstrip())
    if len(windows) > 24:
        typer.echo(f"  ... {len(windows) - 24} more")


@app.command(cls=BareCommand)
def upsample(
    scale: Annotated[
        str | None, typer.Option("--scale", "--scale-factor", help="Factor: 2, or 1.5,2 per axis.")
    ] = None,
    size: Annotated[str | None, typer.Option("--size", help="Output size instead of a factor.")] = None,
    mode: Annotated[
        str, typer.Option(help="nearest, nearest-exact, area, linear, bilinear, trilinear, bicubic.")
    ] = "nearest",
    align_corners: Annotated[bool, typer.Option("--align-corners", help="As in F.interpolate.")] = False,
    antialias: Annotated[bool, typer.Option("--antialias", help="As in F.interpolate.")] = False,
    input_text: Input = None,
    dims: Dims = None,
    as_json: AsJson = False,
) -> None:
    """Upsampling and F.interpolate, up or down."""
    options: dict[str, Any] = parse_options(size=size)
    options |= {"mode": mode, "align_corners": align_corners, "antialias": antialias}
    if scale is not None:
        options["scale_factor"] = _factors(scale)
    report_layer(LayerRequest("upsample", "upsample", options, input_text, dims or _axes(mode, input_text), as_json))


def _axes(mode: str, input_text: str | None) -> int | None:
    """The spatial axes that linear and trilinear work on, or those that the input has where it is for another mode."""
    axes = {"linear": 1, "trilinear": 3}.get(mode)
    if axes is None or input_text is None:
        return axes
    numbers = parse_numbers(input_text, what="--in")
    has_channels = "x" in input_text.lower()
    told = len(numbers) - has_channels
    if has_channels and told == axes + 1 and numbers[0] == 1:
        told = axes  # a leading batch of one
    return axes if told == 1 and not has_channels else min(max(told, 1), len(AXIS_NAMES))


def _factors(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ShapeError(f"--scale {text!r} is not a number; write 2, or 1.5,2 for two axes") from None


@app.command(cls=BareCommand)
def pixelshuffle(
    factor: Annotated[int, typer.Option("--r", "--factor", "--upscale-factor", help="Upscale factor.")],
    down: Annotated[bool, typer.Option("--down", help="PixelUnshuffle: positions become channels.")] = False,
    input_text: Input = None,
    as_json: AsJson = False,
) -> None:
    """Pixel shuffle: channels become positions; --down is the inverse."""
    kind = "pixelunshuffle" if down else "pixelshuffle"
    report_layer(LayerRequest("pixelshuffle", kind, {"factor": factor}, input_text, 2, as_json))
