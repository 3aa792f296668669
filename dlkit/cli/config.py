"""`dlkit config`: write a starter file, check a config, show what it comes to, and print its schema for editors."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.cli.config_command import ConfigCommand
from dlkit.cli.options import AsJson, Config, Force, Overlays, Overrides, output_option
from dlkit.cli.plain_help import PlainCommand, PlainGroup
from dlkit.errors import ConfigError
from dlkit.quantities import counted

if TYPE_CHECKING:
    from dlkit.config import LoadedConfig

app = typer.Typer(name="config", cls=PlainGroup, help="Write, check and show config files.", no_args_is_help=True)


@app.command("init", cls=PlainCommand)
def init(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="File to write; - writes to stdout.")] = Path(
        "dlkit.yaml"
    ),
    force: Force = False,
) -> None:
    """Write a commented config that runs as it is and shows every key."""
    from dlkit.config import starter_text

    if str(path) == "-":
        typer.echo(starter_text(), nl=False)
        return
    _write(path, starter_text(str(path)), may_replace=force)
    typer.echo(f"wrote {path}; next: dlkit train {shlex.quote(str(path))}")


@app.command("check", cls=ConfigCommand)
def check(cfg: Config, overrides: Overrides = None, config: Overlays = None, as_json: AsJson = False) -> None:
    """Look for every mistake that can be found without importing torch or your code; networks of timm are looked up in timm."""
    try:
        loaded = _load(cfg, overrides, config)
        _check_timm(loaded)
    except ConfigError as error:
        if not as_json:
            raise
        typer.echo(json.dumps(_verdict(False, [vars(problem) for problem in error.problems], [])))
        raise typer.Exit(error.exit_code) from None
    if as_json:
        typer.echo(json.dumps(_verdict(True, [], [vars(warning) for warning in loaded.warnings])))
        return
    for warning in loaded.warnings:
        typer.echo(f"{warning} (a warning)", err=True)
    typer.echo(f"ok  {summary(loaded)}")


@app.command("schema", cls=PlainCommand)
def schema(
    output: Annotated[Path | None, output_option("File to write instead of stdout.")] = None,
    force: Force = False,
) -> None:
    """Give the JSON Schema of configs, for completion and checks in an editor."""
    from dlkit.config import config_schema

    text = json.dumps(config_schema(), indent=1) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    _write(output, text, may_replace=force)
    typer.echo(f"wrote {output}; first line of a config: # yaml-language-server: $schema={output}")


@app.command("show", cls=ConfigCommand)
def show(cfg: Config, overrides: Overrides = None, config: Overlays = None, as_json: AsJson = False) -> None:
    """Show the whole config: files and overrides merged, defaults filled in."""
    from dlkit.config import dump_config

    loaded = _load(cfg, overrides, config)
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.config.show/1", "config": loaded.config.model_dump()}))
        return
    typer.echo(dump_config(loaded.config), nl=False)


def _check_timm(loaded: "LoadedConfig") -> None:
    """Raise ConfigError for what timm does not know. Other networks are in dlkit's own tables; timm's change with every version."""
    if loaded.config.model.name.startswith("timm/"):
        from dlkit.core.components import at_section
        from dlkit.core.models import check_timm_model

        with at_section(loaded, "model"):
            check_timm_model(loaded.config.model)


def _load(cfg: Path, overrides: list[str] | None, overlays: list[Path] | None) -> "LoadedConfig":
    from dlkit.config import load_config

    return load_config(cfg, overlays=overlays or (), overrides=overrides or ())


def summary(loaded: "LoadedConfig") -> str:
    """A checked config in one line."""
    config = loaded.config
    parts = [
        f"data {config.data.name}",
        f"model {config.model.name}",
        f"{config.optimizer.name} with {config.schedule.name}",
    ]
    return ", ".join([*parts, counted(config.train.epochs, "epoch"), f"seed {config.seed}"])


def _verdict(is_ok: bool, problems: list[dict[str, Any]], warnings: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema": "dlkit.config.check/1", "ok": is_ok, "problems": problems, "warnings": warnings}


def _write(path: Path, text: str, *, may_replace: bool) -> None:
    from dlkit.files import check_output, write_text

    check_output(path, may_replace=may_replace)
    write_text(path, text)
