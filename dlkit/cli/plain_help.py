"""Help that fits 80 columns: no types beside switches, long lists of choices in the text, epilogs as one paragraph."""

import re
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

MOST_CHOICES = 18  # characters of choices that stand beside an option's name
VALUES = {"int": "N", "float": "NUMBER", "str": "TEXT", "path": "PATH"}
_ARGUMENT = re.compile(r"[{\[](?P<name>.*)[}\]](?P<dots>\.\.\.)?")


class PlainHelp:
    """What commands and groups of them do otherwise than typer."""

    def __init__(self, *arguments: Any, epilog: str | None = None, **options: Any) -> None:
        options["epilog"] = " ".join(epilog.split()) if epilog else None
        super().__init__(*arguments, **options)

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments, worded for help."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            _word(param, ctx)
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line: CFG [KEY=VALUE]... for {CFG} [[KEY=VALUE]...]..."""
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return list(map(usage_word, pieces))


class PlainCommand(PlainHelp, TyperCommand):
    """A command with such help."""


class BareCommand(PlainCommand):
    """A command whose options have several spellings each, which boxes would cut: help without boxes."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help as plain lines."""
        self.rich_markup_mode = None
        super().format_help(ctx, formatter)


class PlainGroup(PlainHelp, TyperGroup):
    """A group of commands with such help."""

    def imported(self, name: str) -> Any:
        """Returns a command of the group."""
        return self.commands[name]


def usage_word(piece: str) -> str:
    """An argument as people write it.

    >>> usage_word("{CFG}"), usage_word("[[KEY=VALUE]...]..."), usage_word("{MODEL...}..."), usage_word("[TEXT]")
    ('CFG', '[KEY=VALUE]...', 'MODEL...', '[TEXT]')
    """
    match = _ARGUMENT.fullmatch(piece)
    if not match:
        return piece
    name, dots = match["name"], match["dots"] or ""
    shown = name if piece.startswith("{") or name.startswith("[") else f"[{name}]"
    return shown if name.endswith("...") else shown + dots


def _word(param: Any, ctx: Any) -> None:
    if isinstance(param, TyperArgument):
        param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
    elif isinstance(param, TyperOption) and param.metavar is None:
        label = param.display_type(ctx).strip("<>")
        kind = label.removesuffix(" range")
        if param.is_flag:
            param.metavar = ""
        elif "|" not in label:
            param.metavar = VALUES.get(kind, kind.upper())
        elif len(label) <= MOST_CHOICES:
            param.metavar = label
        else:
            choices = label.split("|")
            param.metavar = "NAME"
            param.help = f"{param.help or ''} One of {', '.join(choices[:-1])} or {choices[-1]}.".strip()
