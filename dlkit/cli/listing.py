"""`dlkit list`: the names that a config may use."""

import json
from typing import Annotated

import typer

from dlkit.cli.completion import complete_kinds
from dlkit.cli.options import AsJson
from dlkit.cli.plain_help import PlainCommand
from dlkit.errors import UsageError
from dlkit.registry import Entry, entries, kinds

_MORE = {"models": "Those of timm: dlkit list models timm/TEXT. "}


app = typer.Typer()


@app.command("list", cls=PlainCommand)
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="models, datasets, losses, optimizers, schedules, transforms, ...",
            metavar="[KIND]",
            show_default=False,
            autocompletion=complete_kinds,
        ),
    ] = None,
    match: Annotated[
        str | None, typer.Argument(help="Only names that contain this.", metavar="[TEXT]", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the names that a config may use, with their options. Without KIND, the kinds."""
    if kind is None:
        _show_kinds(as_json=as_json)
        return
    found = _matching(kind, match)
    if as_json:
        rows = [
            {"name": entry.name, "target": entry.target, "summary": entry.summary, "options": _defaults(entry)}
            for entry in found
        ]
        typer.echo(json.dumps({"schema": "dlkit.list/1", "kind": kind, "names": rows}))
        return
    from dlkit.cli.console import show_lines, show_table

    show_table(
        ("name", "what it is", "options"),
        [(entry.name, entry.summary, _options_text(entry)) for entry in found],
        left=3,
    )
    show_lines(["", f"{len(found)} {kind}. {_MORE.get(kind, '')}Your own: package.module:attr or ./file.py:attr"])


def _matching(kind: str, match: str | None) -> list[Entry]:
    """The names that contain a text; one that begins with timm asks for timm's own models, which are not listed otherwise."""
    if kind == "models" and match and match.casefold().startswith("timm"):
        from dlkit.core.models import timm_entries

        return timm_entries(match.casefold())
    return [entry for entry in _entries(kind) if match is None or match.casefold() in entry.name.casefold()]


def _entries(kind: str) -> list[Entry]:
    from dlkit.suggestions import did_you_mean

    wanted = kind.replace("-", "_")
    if wanted not in kinds():
        raise UsageError(f"no kind {kind!r}.{did_you_mean(wanted, kinds())} Kinds: {', '.join(kinds())}")
    return list(entries(wanted).values())


def _show_kinds(*, as_json: bool) -> None:
    counts = {kind: len(entries(kind)) for kind in kinds()}
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.list/1", "kinds": counts}))
        return
    from dlkit.cli.console import show_lines, show_table

    show_table(("kind", "names"), [(kind, str(count)) for kind, count in counts.items()])
    show_lines(["", "dlkit list KIND [TEXT] shows the names of one kind"])


def _defaults(entry: Entry) -> dict[str, object] | None:
    return None if entry.options is None else {name: option.default for name, option in entry.options.items()}


def _options_text(entry: Entry) -> str:
    if entry.options is None:
        return "as its class takes"
    return ", ".join(
        name if option.required else f"{name}={_short(option.default)}" for name, option in entry.options.items()
    )


def _short(value: object) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 24 else text[:21] + "..."
