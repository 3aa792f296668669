"""The sub-commands of `dlkit shapecalc`, gathered."""

from collections.abc import Callable
from typing import Any

import typer

from dlkit.cli.plain_help import BareCommand, PlainGroup
from dlkit.cli.shapecalc import dense, models, networks, sizes, solving, spatial

app = typer.Typer(
    name="shapecalc",
    cls=PlainGroup,
    help="Layer arithmetic: sizes, parameters, MACs, receptive fields; forwards, backwards, in chains and models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_COMMANDS: dict[str, Callable[..., Any]] = {
    **spatial.COMMANDS,
    **dense.COMMANDS,
    **solving.COMMANDS,
    **networks.COMMANDS,
    **sizes.COMMANDS,
    **models.COMMANDS,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, cls=BareCommand)(_command)
