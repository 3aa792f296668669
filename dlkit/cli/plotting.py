"""What `lr-plot` and `lr-find` share: options of a plot, and its size in the terminal."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dlkit.schedules import Look

Height = Annotated[int, typer.Option("--height", min=3, max=60, help="Rows of the plot.")]
AsciiOnly = Annotated[bool, typer.Option("--ascii", help="Plain characters only.")]
ValuesAsJson = Annotated[bool, typer.Option("--json", help="Every value as one JSON object on stdout.")]


def pick_look(height: int, *, least_width: int, ascii_only: bool, is_log: bool = False) -> "Look":
    """How to draw on this terminal: its width up to 120, and ASCII where its encoding has no braille."""
    import shutil

    from dlkit.schedules import Look

    width = min(max(shutil.get_terminal_size((80, 24)).columns, least_width), 120)
    try:
        "⣿┤".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        ascii_only = True
    return Look(width, height, is_ascii=ascii_only, is_log=is_log)
