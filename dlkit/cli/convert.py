"""`dlkit convert`: from a pickled model or foreign weights to a file that loads without running code."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.cli.options import Force
from dlkit.cli.plain_help import PlainCommand
from dlkit.errors import UsageError
from dlkit.quantities import counted

if TYPE_CHECKING:
    from dlkit.core.models import StateDict
    from dlkit.events import Emit

Old = Annotated[Path, typer.Argument(help="Weights, or a pickled model.", metavar="OLD", show_default=False)]
New = Annotated[
    Path,
    typer.Argument(
        help="Where to: .safetensors or .pth for weights, .pt with --arch for a model file.",
        metavar="NEW",
        show_default=False,
    ),
]
TrustPickle = Annotated[
    bool,
    typer.Option(
        "--trust-pickle", help="Load OLD even if that runs code from it. Only for files whose maker you trust."
    ),
]
ArchName = Annotated[
    str | None,
    typer.Option(
        "--arch", help="The network, for example resnet18; makes a model file.", metavar="NAME", show_default=False
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option("--num-classes", min=1, help="Classes; default is what the weights tell.", show_default=False),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        min=1,
        help="Height and width of the images that the model takes; default is what its authors say, else 224.",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", help="Take the weights under this key of OLD: state_dict_ema.", metavar="KEY", show_default=False
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        help="Take the tensors whose names begin so, and take it off: model.",
        metavar="TEXT",
        show_default=False,
    ),
]


app = typer.Typer()


@app.command("convert", cls=PlainCommand, no_args_is_help=True)
def convert(
    old: Old,
    new: New,
    trust_pickle: TrustPickle = False,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    key: Key = None,
    prefix: Prefix = None,
    force: Force = False,
) -> None:
    """Convert foreign weights, or with --trust-pickle a pickled model, to a safe file."""
    from dlkit.cli.display import open_display
    from dlkit.core.conversion import read_any, write_model
    from dlkit.core.opening import Naming
    from dlkit.events import Note
    from dlkit.files import check_output

    check_output(new, may_replace=force)
    if arch is not None and new.suffix == ".safetensors":
        raise UsageError(f"{new}: a model file ends in .pt; leave --arch out to write weights alone")
    with open_display(quiet=False, verbose=False, as_json=False) as display:
        found = read_any(old, trust_pickle=trust_pickle, key=key)
        if found.words:
            display.emit(Note(f"{old}: {found.words}" + ("; --key takes another" if found.others else "")))
        weights = _take(found.state, prefix, old)
        if arch is None:
            _write_plain(new, weights, display.emit)
            return
        spec = write_model(new, weights, Naming(arch, num_classes, image_size), source=old, emit=display.emit)
    height, width = spec.info.input_size[1:]
    named = " (those of ImageNet)" if spec.info.classes else ""
    timms = "prepared as timm says" if spec.arch.registry == "timm" else ""
    normalized = timms or ("normalized as for ImageNet" if spec.info.mean else "not normalized")
    typer.echo(
        f"model file {new}: {arch}, {spec.info.num_outputs} classes{named}, images of {height}x{width} {normalized}"
    )


def _take(weights: "StateDict", prefix: str | None, old: Path) -> "StateDict":
    from dlkit.core.models import Reading, take_prefix

    if prefix is None:
        return weights
    taken = take_prefix(Reading(weights), prefix).state
    if not taken:
        shown = ", ".join(list(weights)[:3])
        raise UsageError(f"--prefix {prefix}: no name in {old} begins so; they are {shown}, ...")
    return taken


def _write_plain(new: Path, weights: "StateDict", emit: "Emit") -> None:
    """Write weights alone, and say what was taken off their names and what is still in front of them."""
    from dlkit.core.conversion import write_weights
    from dlkit.core.models import common_prefix, plain_reading
    from dlkit.events import Note

    reading = plain_reading(weights)
    write_weights(new, reading.state)
    for note in reading.notes:
        emit(Note(note))
    if prefix := common_prefix(reading.state):
        emit(Note(f"all names begin with {prefix!r}; --prefix {prefix} takes it off"))
    typer.echo(f"{counted(len(reading.state), 'tensor')} written to {new}")
