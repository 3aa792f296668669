"""`sizes`: which input sizes pass through a chain or a model. Only a model imports torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import BareCommand
from dlkit.cli.shapecalc.networks import CheckError, NumClasses, read_chain
from dlkit.cli.shapecalc.show import print_json, print_pairs, print_table
from dlkit.shapes import ShapeError, ValidSizes, find_valid_sizes, is_layer, size_text, valid_chain_sizes

if TYPE_CHECKING:
    from dlkit.core.profile import InputSpec, ProfiledModel

app = typer.Typer()

Network = Annotated[
    str,
    typer.Argument(
        metavar="CHAIN|MODEL",
        help='Layers: "conv 64 k3 s2 p1; relu; gap 1", a file, or - for stdin; or a model as `shapecalc model` takes it.',
    ),
]


@app.command(cls=BareCommand)
def sizes(
    text: Network,
    channels: Annotated[int, typer.Option("--c-in", "--in-channels", min=1, help="Input channels.")] = 3,
    span: Annotated[
        str | None, typer.Option("--range", help="Sizes to try: 32..512; default 1..512, of a model 1..256.")
    ] = None,
    dims: Annotated[int, typer.Option("--dims", min=1, max=3, help="Spatial axes.")] = 2,
    num_classes: NumClasses = None,
    as_json: AsJson = False,
) -> None:
    """Which input sizes pass through a chain or a model, and the divisor rule behind them. Exit 1 if none does."""
    if _is_model(text):
        tried = parse_range(span or "1..256")
        found = _sizes_of_model(text, (channels, *(224,) * dims), tried, num_classes=num_classes or 1000)
    else:
        tried = parse_range(span or "1..512")
        found = valid_chain_sizes(read_chain(text, num_classes=num_classes), channels, tried, dims=dims)
    print_passing(found, as_json=as_json)


def _is_model(text: str) -> bool:
    """Whether this names a model: an import path, a model file, a config without `layers:`, a name that is no layer."""
    if text == "-" or ";" in text or len(text.split()) != 1:
        return False
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        return path.is_file() and "layers:" not in path.read_text(encoding="utf-8")
    if ":" in text or path.suffix in (".pt", ".pth", ".safetensors"):
        return True
    return not path.suffix and "/" not in text and not is_layer(text)


def _sizes_of_model(text: str, shape: tuple[int, ...], tried: range, *, num_classes: int) -> ValidSizes:
    from dlkit.core.profile import InputSpec, fit_to_inputs, model_from

    source = model_from(text, given={"input_size": shape, "in_channels": shape[0], "num_classes": num_classes})
    spec = source.inputs[0] if source.inputs else InputSpec(shape)
    return model_sizes(fit_to_inputs(source, [spec]), spec, tried)


def model_sizes(source: "ProfiledModel", spec: "InputSpec", tried: range) -> ValidSizes:
    """Which square images (cubes in 3-d) with the channels of `spec` pass the model."""
    from dlkit.core.profile import output_shape

    channels, dims = spec.shape[0], len(spec.shape) - 1
    if dims < 1:
        raise ShapeError("sizes are tried on inputs with spatial axes, such as 3x224x224")

    def run(size: int) -> str | None:
        shape = output_shape(source.model, (channels, *(size,) * dims))
        return None if shape is None else size_text(shape[1:])

    return find_valid_sizes(run, tried)


def parse_range(text: str) -> range:
    """`32..512`, both ends included. Raises ShapeError."""
    first, _, last = text.partition("..")
    try:
        numbers = range(int(first), int(last) + 1)
    except ValueError:
        numbers = range(0)
    if not numbers or numbers[0] < 1:
        raise ShapeError(f"--range {text!r} is not a range of sizes; write 32..512")
    return numbers


def print_passing(found: ValidSizes, *, as_json: bool) -> None:
    """The rule, and the first sizes with their outputs. Raises CheckError if nothing passes."""
    if as_json:
        pairs = [{"in": size, "out": out} for size, out in zip(found.sizes, found.outs, strict=True)]
        rule = {"divisor": found.divisor, "remainders": list(found.remainders), "text": found.rule}
        print_json("sizes", {"tried": [found.tried[0], found.tried[-1]], "rule": rule, "sizes": pairs})
    if not found.sizes:
        raise CheckError(f"{found.rule}; `dlkit shapecalc chain` with one of them says why")
    if as_json:
        return
    shown = list(zip(found.sizes, found.outs, strict=True))
    print_pairs([("rule", found.rule), ("passing", f"{len(shown)} of {len(found.tried)} sizes tried")])
    print_table(["in", "out"], [[str(size), out] for size, out in shown[:12]], left=frozenset({1}))
    if len(shown) > 12:
        typer.echo(f"  ... to {shown[-1][0]}")
