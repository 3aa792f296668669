"""Results as plain text of at most 80 columns, or as one JSON object."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from dlkit.shapes import count_text

SCHEMA = "dlkit.shapecalc/1"


def print_json(command: str, content: Mapping[str, Any]) -> None:
    """One object with the schema's name in front."""
    typer.echo(json.dumps({"schema": SCHEMA, "command": command, **content}, indent=2))


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Name and value, one pair per line; long values wrap, lines already broken stay as they are."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        lines = textwrap.wrap(value, 76 - width, break_on_hyphens=False, break_long_words=False) or [""]
        typer.echo(f"  {name:<{width}}  {lines[0]}")
        for line in lines[1:]:
            typer.echo(f"  {'':<{width}}  {line}")


def macs_text(macs: int) -> str:
    """MACs, and the FLOPs that they make."""
    return f"{count_text(macs)}; FLOPs = 2 MACs = {count_text(2 * macs)}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: frozenset[int] = frozenset({0})) -> None:
    """Columns as wide as they must be; numbers to the right, the columns `left` to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo(("  " + "  ".join(cells)).rstrip())


def shortened(text: str, width: int) -> str:
    """The text, cut with two dots where it is too long."""
    return text if len(text) <= width else text[: width - 2] + ".."
