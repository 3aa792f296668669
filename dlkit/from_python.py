"""Training and reports as people call them in Python, in a notebook or at a prompt: the command's own display shows how it goes."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.events import Emit, Event, ignore

if TYPE_CHECKING:
    from dlkit.core.training import Resume, TrainResult


def train(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: "str | Path | Resume | None" = None,
    emit: Emit = ignore,
    progress: bool = False,
) -> "TrainResult":
    """Train from a YAML file or a mapping, as `dlkit train` does, and return where the results lie.

    `resume` is a run folder or a checkpoint, or a `Resume` that says more. With `progress` a table shows how it goes: in the output of
    a notebook's cell, else on stderr; nothing is printed otherwise. Raises the errors of dlkit.errors.
    """
    from dlkit.core.training import train as train_quietly
    from dlkit.report import write_run_page

    with _shown(emit, is_asked=progress) as emit:
        return train_quietly(config, overrides=overrides, out=out, resume=resume, write_page=write_run_page, emit=emit)


def write_report(*runs: str | Path, output: str | Path | None = None, force: bool = False, emit: Emit = ignore) -> Path:
    """Write one HTML page about a run folder, or about several side by side, as `dlkit report` does, and return its path.

    Without `output` that is report.html in the folder of the run, or of several here. `force` replaces a page that is there.
    """
    from dlkit.report import ReportRequest, run_report

    request = ReportRequest(tuple(map(Path, runs)), Path(output) if output else None, is_forced=force)
    return run_report(request, emit).path


@contextmanager
def _shown(emit: Emit, *, is_asked: bool) -> Iterator[Emit]:
    """An emit that draws, too, if that is asked for."""
    if not is_asked:
        yield emit
        return
    display = _open_display()

    def emit_and_draw(event: Event) -> None:
        emit(event)
        display.emit(event)

    try:
        yield emit_and_draw
    finally:
        display.close()


def _open_display() -> Any:
    if _is_notebook():
        from dlkit.cli.notebook_table import NotebookTable

        return NotebookTable()
    from dlkit.cli.display import Display

    return Display(quiet=False, verbose=False, as_json=False)


def _is_notebook() -> bool:
    """Whether this is the kernel of a notebook, which shows HTML; IPython at a terminal is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
