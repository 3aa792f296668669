"""`dlkit export`: a model file as ONNX, an exported or compiled program, plain weights, or a folder for timm."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.choices import ExportFormat
from dlkit.cli.options import ArchName, AsJson, Force, ImageSize, ModelFile, Network, NumClasses, WeightsData
from dlkit.cli.plain_help import PlainCommand
from dlkit.tasks import TRAITS, TaskName

if TYPE_CHECKING:
    from dlkit.core.export import Exported, Parity


FormatOption = Annotated[
    ExportFormat,
    typer.Option(
        "--format",
        help="ONNX, torch.export's .pt2, a compiled .pt2 (aoti), weights alone, or a folder for timm.",
        show_default=False,
    ),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="File to write; a folder for timm.", metavar="PATH", show_default=False)
]


Normalize = Annotated[
    bool,
    typer.Option("--normalize", help="ONNX: let the file normalize, so that it takes pixels from 0 to 1."),
]
Resize = Annotated[
    bool,
    typer.Option("--resize", help="ONNX: let the file scale and cut images of any size to the network's."),
]
DynamicSize = Annotated[
    bool,
    typer.Option("--dynamic-size", help="ONNX: let the file take images of other heights and widths as they are."),
]
Opset = Annotated[
    int | None,
    typer.Option(
        "--opset", help="ONNX: version of the operators, for older or newer runtimes.", metavar="N", show_default=False
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Programs: CPU threads to run with, as `dlkit bench` found best. Written into the lines that load the file, and into ONNX.",
        metavar="N",
        show_default=False,
    ),
]


app = typer.Typer()


@app.command("export", cls=PlainCommand, no_args_is_help=True)
def export(
    model: ModelFile,
    format_: FormatOption,
    output: Output,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    network: Network = None,
    data: WeightsData = None,
    normalize: Normalize = False,
    resize: Resize = False,
    dynamic_size: DynamicSize = False,
    opset: Opset = None,
    threads: Threads = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a model, float, pruned or int8, for other programs, and check that the file computes what the model does."""
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.config import load_data_option
    from dlkit.core.export import ExportOptions, export_model
    from dlkit.core.opening import Naming, open_model

    loaded = load_data_option(data) if data else None
    with prints_aside(), open_display(quiet=as_json, verbose=False, as_json=False) as display:
        file = open_model(
            model, Naming(arch, num_classes, image_size, network), data=loaded, uses_data=False, emit=display.emit
        )
        options = ExportOptions(normalize, resize, opset, threads, dynamic_size)
        exported = export_model(file, format_, output, model=network, options=options, force=force)
    if as_json:
        values = asdict(exported) | {"path": str(exported.path)}
        typer.echo(json.dumps({"schema": "dlkit.export/1", "model": str(model), **values}))
    else:
        _show(exported, file.spec.info.task)


def _show(exported: "Exported", task: TaskName) -> None:
    from dlkit.cli.console import show_lines

    show_lines([f"{exported.path}  {exported.format}, {exported.bytes:,} bytes"])
    show_lines([f"checked: {_parity(exported.parity, task)}", *(f"note: {note}" for note in exported.notes), ""])
    show_lines([f"  {line}" for line in exported.loading], is_code=True)


def _parity(parity: "Parity | None", task: TaskName) -> str:
    if parity is None:
        return "read back, every tensor is equal"
    outputs = f"outputs differ by at most {parity.max_abs:.2g} of {parity.output_max:.2g}"
    if TRAITS[task].agreed:
        outputs += f", {parity.words(task)}"
    if parity.layer_steps is None:
        return outputs
    steps = f"{parity.layer_steps} step{'' if parity.layer_steps == 1 else 's'}"
    return f"no layer differs by more than {steps} of its int8 grid on equal input; {outputs} of random inputs"
