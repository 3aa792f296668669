"""The options that the sub-commands share, in the field's words and with short forms."""

from typing import Annotated, Any

import typer

from dlkit.shapes import ShapeError, Size, parse_numbers, per_axis

Kernel = Annotated[str, typer.Option("--k", "--kernel-size", help="Kernel size: 3, or 3,5 per axis.")]
Stride = Annotated[str | None, typer.Option("--s", "--stride", help="Stride (pooling: the kernel size if not given).")]
Padding = Annotated[str, typer.Option("--p", "--padding", help="Padding: 1, or 1,2 per axis; same or valid for conv.")]
Dilation = Annotated[str, typer.Option("--d", "--dilation", help="Dilation.")]
Groups = Annotated[int, typer.Option("--g", "--groups", help="Groups.")]
OutputPadding = Annotated[str, typer.Option("--op", "--output-padding", help="Output padding.")]
CeilMode = Annotated[bool, typer.Option("--ceil", "--ceil-mode", help="Round up instead of down.")]
Input = Annotated[
    str | None,
    typer.Option("--in", "--input", help="Input: 224 (square), 224,320 (height,width) or 3x224x224 (channels first)."),
]
ChannelsIn = Annotated[int | None, typer.Option("--c-in", "--in-channels", help="Input channels.")]
ChannelsOut = Annotated[int | None, typer.Option("--c-out", "--out-channels", help="Output channels.")]
Bias = Annotated[bool, typer.Option("--bias/--no-bias", help="With a bias.")]
Dims = Annotated[
    int | None,
    typer.Option("--dims", min=1, max=3, help="Spatial axes; otherwise seen from the input and the options, else 2."),
]
Draw = Annotated[bool, typer.Option("--draw", help="Draw the windows over the input.")]

SHORT_NAMES = {
    **{"kernel_size": "--k", "stride": "--s", "padding": "--p", "dilation": "--d"},
    **{"output_padding": "--op", "output_size": "--out"},
}


def parse_options(**texts: str | None) -> dict[str, Any]:
    """Options with their numbers read; those that are None are left out, `same` and `valid` stay text."""
    return {name: _parse(name, text) for name, text in texts.items() if text is not None}


def _parse(name: str, text: str) -> tuple[int, ...] | str:
    if text.lower() in ("same", "valid"):
        return text.lower()
    try:
        return parse_numbers(text, what=name)
    except ShapeError:
        raise ShapeError(
            f"{SHORT_NAMES.get(name, '--' + name)} {text!r} is not a number; write 3, or 3,5 for two axes"
        ) from None


def parse_input(text: str | None, *, dims: int | None, options: dict[str, Any]) -> tuple[int | None, Size | None, int]:
    """Channels (None if not said), spatial sizes (None without input) and the number of spatial axes."""
    longest = max([1, *(len(value) for value in options.values() if isinstance(value, tuple))])
    if longest > 3:
        raise ShapeError(f"there are {longest} numbers for one option; torch's layers have at most 3 spatial axes")
    if text is None:
        return None, None, dims or (longest if longest > 1 else 2)
    numbers = parse_numbers(text, what="--in")
    if "x" not in text.lower():
        axes = dims or (len(numbers) if len(numbers) > 1 else longest if longest > 1 else 2)
        if axes > 3:
            raise ShapeError(f"--in {text!r} has {axes} sizes; torch's layers have at most 3 spatial axes")
        return None, per_axis(numbers, axes, what="--in"), axes
    return _channels_first(numbers, dims, text)


def _channels_first(numbers: tuple[int, ...], dims: int | None, text: str) -> tuple[int | None, Size, int]:
    """`3x224x224`; two numbers are height and width; a leading batch is left out (of four numbers, if it is 1)."""
    if dims is None:
        dims = {2: 2, 3: 2, 4: 2 if numbers[0] == 1 else 3, 5: 3}.get(len(numbers), 0)
    extra = len(numbers) - dims
    if dims < 1 or extra not in (0, 1, 2):
        raise ShapeError(
            f"--in {text!r} has {len(numbers)} numbers; 3x224x224 is channels x height x width (see --dims)"
        )
    return (numbers[-dims - 1] if extra else None), numbers[-dims:], dims


def parse_shape(text: str) -> tuple[int, ...]:
    """The shape of one sample, as written: 3x224x224, or 784 features. Raises ShapeError below 1."""
    shape = parse_numbers(text, what="input")
    if min(shape) < 1:
        raise ShapeError(f"input {text!r}: sizes must be at least 1")
    return shape
