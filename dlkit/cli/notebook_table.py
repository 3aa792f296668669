"""How training goes, as a table in a Jupyter notebook that grows by a row for each epoch. IPython is there then."""

from contextlib import suppress
from html import escape
from typing import Any

from dlkit.cli.display import epoch_cells
from dlkit.event_lines import metric_text, progress_line, start_lines
from dlkit.events import EpochDone, Evaluating, Event, Note, Progress, RunStarted, Tested, Throttle, Working

REDRAW_S = 0.5
_CELL = "text-align: right; padding: 0 0.8em"


class NotebookTable:
    """Draws events in one output of a cell, which it replaces."""

    def __init__(self) -> None:
        from IPython.display import display

        self._handle: Any = display(self._shown(""), display_id=True)
        self._above: list[str] = []
        self._rows: list[tuple[dict[str, str], bool]] = []
        self._below: list[str] = []
        self._share = 0.0
        self._throttle = Throttle(REDRAW_S)

    def emit(self, event: Event) -> None:
        """Take an event in, and draw."""
        match event:
            case RunStarted():
                self._above += start_lines(event)
            case EpochDone():
                self._rows.append((epoch_cells(event), event.best))
                self._draw("")
            case Progress():
                self._share = event.step / max(event.total_steps, 1)
                self._draw_at_times(progress_line(event))
            case Evaluating():
                self._draw_at_times(f"evaluating on {event.split}: {event.done} of {event.total}")
            case Working():
                self._draw_at_times(f"{event.what}: {event.done} of {event.total}" if event.total > 1 else event.what)
            case Note() if f"note: {event.text}" not in self._below:
                self._below.append(f"note: {event.text}")
            case Tested():
                metrics = "  ".join(metric_text(name, value) for name, value in event.metrics.items())
                self._below.append(f"{event.split}: {metrics}")

    def close(self) -> None:
        """Draw the last state, without the bar."""
        self._draw("", is_done=True)

    def _draw_at_times(self, status: str) -> None:
        if self._throttle.is_due():
            self._draw(status)

    def _draw(self, status: str, *, is_done: bool = False) -> None:
        bar = "" if is_done else f'<progress max="1" value="{self._share:.3f}"></progress> {escape(status)}'
        parts = [_lines(self._above), self._table(), bar, _lines(self._below)]
        with suppress(Exception):  # a page that went away ends no run
            self._handle.update(self._shown("".join(parts)))

    def _table(self) -> str:
        if not self._rows:
            return ""
        names = list(self._rows[-1][0])
        head = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in names)
        rows = (
            "".join(f'<td style="{_CELL}">{escape(cells.get(name, ""))}</td>' for name in names)
            + f"<td>{'best' if is_best else ''}</td>"
            for cells, is_best in self._rows
        )
        return f"<table><tr>{head}<th></th></tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    @staticmethod
    def _shown(html: str) -> Any:
        from IPython.display import HTML

        return HTML(html)


def _lines(lines: list[str]) -> str:
    return "".join(f"<div>{escape(line)}</div>" for line in lines)
