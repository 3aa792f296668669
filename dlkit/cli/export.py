"""`dlkit export`: a model file as ONNX, an exported or compiled program, plain weights, or a folder for timm."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.choices import ExportFormat
from dlkit.cli.options import AsJson, Force, ModelFile, Network

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


def export(
    model: ModelFile,
    format_: FormatOption,
    output: Output,
    network: Network = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a model, float, pruned or int8, for other programs, and check that the file computes what the model does."""
    from dlkit.cli.display import prints_aside
    from dlkit.core.export import export_model
    from dlkit.core.modelfile import read_model_file

    with prints_aside():
        exported = export_model(read_model_file(model), format_, output, model=network, force=force)
    if as_json:
        values = asdict(exported) | {"path": str(exported.path)}
        typer.echo(json.dumps({"schema": "dlkit.export/1", "model": str(model), **values}))
    else:
        _show(exported)


def _show(exported: "Exported") -> None:
    from dlkit.cli.console import show_lines

    show_lines([f"{exported.path}  {exported.format}, {exported.bytes:,} bytes"])
    show_lines([f"checked: {_parity(exported.parity)}", *(f"note: {note}" for note in exported.notes), ""])
    show_lines([f"  {line}" for line in exported.loading], is_code=True)


def _parity(parity: "Parity | None") -> str:
    if parity is None:
        return "read back, every tensor is equal"
    outputs = f"outputs differ by at most {parity.max_abs:.2g} of {parity.output_max:.2g}, same class for {parity.agreement:.0%}"
    if parity.layer_steps is None:
        return outputs
    steps = f"{parity.layer_steps} step{'' if parity.layer_steps == 1 else 's'}"
    return f"no layer differs by more than {steps} of its int8 grid on equal input; {outputs} of random inputs"
