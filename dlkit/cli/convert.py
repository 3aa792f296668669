"""`dlkit convert`: from a pickled model or foreign weights to a file that loads without running code."""

from pathlib import Path
from typing import Annotated

import typer

from dlkit.cli.options import Force
from dlkit.errors import UsageError
from dlkit.quantities import counted

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
    int, typer.Option("--image-size", min=1, help="Height and width of the images that the model takes.")
]


def convert(
    old: Old,
    new: New,
    trust_pickle: TrustPickle = False,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = 224,
    force: Force = False,
) -> None:
    """Convert foreign weights, or with --trust-pickle a pickled model, to a safe file."""
    from dlkit.core.conversion import count_outputs, imagenet_info, read_any, write_model, write_weights
    from dlkit.files import check_output

    check_output(new, may_replace=force, advice="give another name, or --force")
    if arch is not None and new.suffix == ".safetensors":
        raise UsageError(f"{new}: a model file ends in .pt; leave --arch out to write weights alone")
    weights = read_any(old, trust_pickle=trust_pickle)
    if arch is None:
        write_weights(new, weights)
        typer.echo(f"{counted(len(weights), 'tensor')} written to {new}")
        return
    name = arch.removeprefix("torchvision:")
    outputs = num_classes or count_outputs(weights, name)
    write_model(new, weights, name, imagenet_info(outputs, image_size))
    typer.echo(
        f"model file {new}: {arch}, {outputs} classes, images of {image_size}x{image_size} normalized as for ImageNet"
    )
