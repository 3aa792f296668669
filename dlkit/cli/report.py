"""`dlkit report`: a run, or several, as one HTML page."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dlkit.cli.options import AsJson, Force, output_option
from dlkit.cli.plain_help import PlainCommand

Runs = Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN...", show_default=False)]
Output = Annotated[
    Path | None, output_option("The page; default is report.html in the folder of the run, or of several here.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Without pictures of mistakes and the table of layers; loads no torch.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but what goes wrong.")]

app = typer.Typer()


@app.command("report", cls=PlainCommand, no_args_is_help=True)
def report(
    runs: Runs,
    output: Output = None,
    quick: Quick = False,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make one HTML page of a run, or of several side by side: curves, scores, mistakes, model, config. It needs no network."""
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.report import ReportRequest, run_report

    request = ReportRequest(tuple(runs), output, opens_models=not quick, is_forced=force)
    with prints_aside(), open_display(quiet=quiet or as_json, verbose=False, as_json=False) as display:
        result = run_report(request, display.emit)
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.report/1", "file": str(result.path), "bytes": result.num_bytes}))
    elif not quiet:
        from dlkit.cli.console import show_lines
        from dlkit.quantities import bytes_text

        show_lines([f"{result.path}  {bytes_text(result.num_bytes)}"])
