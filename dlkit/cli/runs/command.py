"""`dlkit runs`: the runs below a folder as a table, chosen and sorted, and their checkpoints deleted on request."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import PlainCommand
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.run_folders import StoredRun

Folders = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Folders with run folders anywhere below them; default is runs.", metavar="[DIR]...", show_default=False
    ),
]
Sort = Annotated[
    str | None,
    typer.Option(
        "--sort",
        help="test_accuracy, best, time, status, optimizer.lr, ...: the best or greatest last. Default is the newest last.",
        metavar="KEY",
        show_default=False,
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="Only runs for which this holds: 'optimizer.lr<0.01', 'status=killed', 'test_accuracy>=97%'. May be given again.",
        metavar="CONDITION",
        show_default=False,
    ),
]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune-checkpoints", help="Delete the checkpoints that nothing needs, after telling which and asking."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Delete them without asking.")]


app = typer.Typer()


@app.command("runs", cls=PlainCommand)
def runs(
    folders: Folders = None, sort: Sort = None, where: Where = None, as_json: AsJson = False, prune_checkpoints: Prune = False,
    yes: Yes = False,
) -> None:  # fmt: skip
    """List runs: status, what they were trained on, the settings in which they differ, and what they came to."""
    if yes and not prune_checkpoints:
        raise UsageError("--yes goes with --prune-checkpoints")
    folders = folders or [Path("runs")]
    found = _find(folders, where or [], sort)
    if prune_checkpoints:
        from dlkit.cli.runs.pruning import prune

        prune(found, may_delete=yes, as_json=as_json)
    elif as_json:
        from dlkit.cli.runs.table import runs_as_json

        typer.echo(runs_as_json(found))
    else:
        from dlkit.cli.runs.table import show_runs

        show_runs(found, folders)


def _find(folders: Sequence[Path], conditions: Sequence[str], sort: str | None) -> "list[StoredRun]":
    from dlkit.run_folders import choose_runs, find_run_folders, read_run, sort_runs

    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; name the one that run folders lie in")
    paths = dict.fromkeys(path for folder in folders for path in find_run_folders(folder))
    return sort_runs(choose_runs([read_run(path) for path in paths], conditions), sort)
