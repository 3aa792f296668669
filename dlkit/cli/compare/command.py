"""`dlkit compare`: runs side by side, and whether they differ by more than chance."""

from pathlib import Path
from typing import Annotated

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import PlainCommand
from dlkit.cli.plotting import AsciiOnly, Height, pick_look
from dlkit.errors import UsageError

Runs = Annotated[
    list[Path],
    typer.Argument(
        help="Run folders; the others are compared with the first.", metavar="RUN RUN...", show_default=False
    ),
]
Curve = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="The column of metrics.csv to draw; default is what chose the best epoch.",
        metavar="NAME",
        show_default=False,
    ),
]


app = typer.Typer()


@app.command("compare", cls=PlainCommand, no_args_is_help=True)
def compare(
    runs: Runs, metric: Curve = None, height: Height = 10, ascii_only: AsciiOnly = False, as_json: AsJson = False
) -> None:
    """Compare runs: settings that differ, metrics, whether their differences are more than chance, and curves."""
    from dlkit.run_comparison import compare_runs
    from dlkit.run_folders import has_begun, read_run

    for path in runs:
        if not has_begun(path):
            raise UsageError(f"{path}: no run folder; `dlkit runs` lists those that there are")
    if len({path.resolve() for path in runs}) < max(len(runs), 2):
        raise UsageError("give two runs or more, each once")
    compared = compare_runs([read_run(path) for path in runs])
    if as_json:
        from dlkit.cli.compare.show import comparison_as_json

        typer.echo(comparison_as_json(compared))
    else:
        from dlkit.cli.compare.show import show_comparison

        show_comparison(compared, metric, pick_look(height, least_width=60, ascii_only=ascii_only))
