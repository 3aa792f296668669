"""Groups of commands that are imported when they are called, because all of them together take longer than most do."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand

from dlkit.cli.plain_help import PlainGroup


class LazyGroup(PlainGroup):
    """A group whose commands are names and summaries until they are called.

    `places` holds the module of each, whose `app` has the command, and the summary: its own, or the first paragraph of its help.
    """

    places: ClassVar[Mapping[str, tuple[str, str]]]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands = {name: TyperCommand(name=name, help=summary) for name, (_, summary) in self.places.items()}

    def imported(self, name: str) -> Any:
        """Returns the command itself."""
        holder = typer.Typer()
        holder.add_typer(import_module(self.places[name][0]).app)
        return typer.main.get_group(holder).commands[name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the line calls, imported, and the words behind its name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and self.imported(command.name or ""), rest
