"""What a command proposes to do next: lines that run as they are when pasted into a shell."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from dlkit.cli.console import show_lines, terminal_width

INDENT = "  "
REMARK_INDENT = "      "


@dataclass(frozen=True)
class NextStep:
    """A command line, and a remark on what it is good for."""

    command: str
    remark: str = ""


def shell_options(**given: object) -> str:
    """Options as words for a shell, each with a space before it; those that are None are left out."""
    named = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in named.items())


def show_next_steps(steps: Sequence[NextStep]) -> None:
    """Print the proposed commands under their heading; nothing where there are none."""
    if steps:
        show_lines(["", "Next:", *next_lines(steps, width=terminal_width())], is_code=True)


def next_lines(steps: Sequence[NextStep], *, width: int | None = None) -> list[str]:
    """The lines of all steps, remarks in a column of their own.

    Where the terminal is too narrow a remark stands below its command, and a command is continued with a backslash.
    """
    column = max(len(step.command) for step in steps)
    lines = [
        INDENT + (f"{step.command.ljust(column)}  {step.remark}" if step.remark else step.command) for step in steps
    ]
    if width is None or max(map(len, lines)) <= width:
        return lines
    lines = []
    for step in steps:
        lines += continued_command(step.command, width)
        lines += [REMARK_INDENT + step.remark] if step.remark else []
    return lines


def continued_command(command: str, width: int) -> list[str]:
    """A command in lines of at most `width` characters where its words allow it, each but the last ended by a backslash."""
    lines = [""]
    for word in _pieces(command):
        if lines[-1] and len(INDENT) + len(lines[-1]) + len(word) + 3 > width:
            lines[-1] += " \\"
            lines.append(INDENT + word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return [INDENT + line for line in lines]


def _pieces(command: str) -> list[str]:
    """The words as they are quoted, an option with its value in one piece."""
    pieces: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if pieces and pieces[-1].startswith("--") and " " not in pieces[-1] and not word.startswith("-"):
            pieces[-1] += f" {word}"
        else:
            pieces.append(word)
    return pieces
