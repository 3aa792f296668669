"""`dlkit runs --prune-checkpoints`: says what it would delete and how much that frees, asks, and deletes."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from dlkit.cli.console import show_lines, show_table, stderr_console
from dlkit.cli.display import open_display
from dlkit.errors import OutputError, UsageError
from dlkit.events import Emit, Working
from dlkit.files import to_json
from dlkit.quantities import bytes_text, counted
from dlkit.run_folders import StoredRun

if TYPE_CHECKING:
    from dlkit.core.training import Reclaimable


def prune(runs: Sequence[StoredRun], *, may_delete: bool, as_json: bool) -> None:
    """Delete the checkpoints of runs that nothing needs. Raises UsageError where nobody can be asked."""
    import dlkit.core.training  # noqa: F401 # takes seconds, during which a signal ends this process on the spot

    with open_display(quiet=as_json, verbose=False, as_json=False) as display:
        found = _find(runs, display.emit)
        display.close()
        having = [each for each in found if each.files]
        if not as_json:
            _show(found, {run.path: run.status for run in runs})
        if having and not may_delete and not _agrees(having):
            show_lines(["nothing was deleted"], console=stderr_console())
            having = []
        deleted = _delete(having, display.emit)
    if as_json:
        typer.echo(_as_json(found, deleted))
    elif having:
        show_lines([f"deleted {_amount(deleted)}"])


def _find(runs: Sequence[StoredRun], emit: Emit) -> "list[Reclaimable]":
    from dlkit.core.training import find_reclaimable

    found = []
    for number, run in enumerate(runs):
        emit(Working("reading checkpoints", number, len(runs)))
        found.append(find_reclaimable(run.path))
    return found


def _show(found: "Sequence[Reclaimable]", statuses: dict[object, str]) -> None:
    rows = [
        (
            str(each.run_dir),
            statuses[each.run_dir],
            " ".join(path.name for path in each.files) or "-",
            f"{each.kept}" if each.kept else "",
            bytes_text(each.num_bytes) if each.files else "",
        )
        for each in found
    ]
    show_table(("run", "status", "to delete", "others stay", "frees"), rows, left=4, optional=(3,))
    if any(each.files for each in found):
        ended = sum(1 for each in found if each.files and not each.kept)
        lines = [f"in all {_amount(found)}"]
        if ended:
            lines.append(
                f"{counted(ended, 'run')} that ended: model.pt stays, and --resume --extend can no longer make them longer"
            )
        show_lines(["", *lines])
    else:
        show_lines(["", "no checkpoint can be deleted"])


def _amount(found: "Sequence[Reclaimable]") -> str:
    files = sum(len(each.files) for each in found)
    return f"{counted(files, 'file')}, {bytes_text(sum(each.num_bytes for each in found))}"


def _agrees(found: "Sequence[Reclaimable]") -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"{_amount(found)} would be deleted, and nobody can be asked here; give --yes")
    return typer.confirm(f"Delete {_amount(found)}?", err=True)


def _delete(found: "Sequence[Reclaimable]", emit: Emit) -> "list[Reclaimable]":
    """Delete them and return those that were; a run that is in use by now is told and left."""
    from dlkit.core.training import delete_reclaimable

    deleted = []
    for each in found:
        try:
            delete_reclaimable(each, emit)
        except OutputError as error:
            show_lines([f"note: {error}"], console=stderr_console())
        else:
            deleted.append(each)
    return deleted


def _as_json(found: "Sequence[Reclaimable]", deleted: "Sequence[Reclaimable]") -> str:
    rows = [
        {
            "path": str(each.run_dir),
            "files": [path.relative_to(each.run_dir).as_posix() for path in each.files],
            "bytes": each.num_bytes,
            "kept": each.kept,
            "deleted": each in deleted,
        }
        for each in found
    ]
    return to_json({"schema": "dlkit.runs-pruned/1", "runs": rows, "bytes": sum(each.num_bytes for each in deleted)})
