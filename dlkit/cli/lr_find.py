"""`dlkit lr-find`: the learning-rate range test on a config's own model and data."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.cli.config_command import ConfigCommand
from dlkit.cli.options import Config, Force, Overlays, Overrides, RunDevice, Seed, options_as_overrides
from dlkit.cli.plotting import AsciiOnly, Height, ValuesAsJson, pick_look
from dlkit.errors import Interrupted
from dlkit.signals import stopped_by_signals

if TYPE_CHECKING:
    from dlkit.config import LoadedConfig
    from dlkit.core.training import FoundRate
    from dlkit.events import Emit, Event
    from dlkit.schedules import Look, SweepPlan

EPILOG = """Writes nothing unless -o is given. Ctrl-C ends the test with what was found so far, and exit code 130."""

Lo = Annotated[float, typer.Option("--lo", help="The first learning rate.")]
Hi = Annotated[float, typer.Option("--hi", help="The last one, if the loss does not diverge before.")]
Steps = Annotated[int, typer.Option("--steps", help="Optimizer steps of a sweep.")]
Repeats = Annotated[int, typer.Option("--repeats", help="Sweeps, from the same weights with samples in another order.")]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "-o", "--output", help="Write .csv, .json, .png, .svg or .pdf; may be given again.", show_default=False
    ),
]


app = typer.Typer()


@app.command("lr-find", cls=ConfigCommand, epilog=EPILOG, no_args_is_help=True)
def lr_find(
    cfg: Config,
    overrides: Overrides = None,
    overlays: Overlays = None,
    lo: Lo = 1e-6,
    hi: Hi = 1.0,
    steps: Steps = 150,
    repeats: Repeats = 3,
    device: RunDevice = None,
    seed: Seed = None,
    output: Outputs = None,
    force: Force = False,
    height: Height = 12,
    ascii_only: AsciiOnly = False,
    as_json: ValuesAsJson = False,
) -> None:
    """Find a learning rate: sweep it from low to high on the config's model and data, and see where the loss falls.

    The config's schedule takes no part; what is found is the schedule's peak, optimizer.lr.
    """
    from dlkit.config import load_config
    from dlkit.schedules import SweepPlan, check_result_files

    plan = SweepPlan(lo, hi, steps, repeats)
    check_result_files(output or (), may_replace=force)
    changes = [*(overrides or ()), *options_as_overrides({"runtime.device": device, "seed": seed})]
    loaded = load_config(cfg, overlays=overlays or (), overrides=changes)
    import dlkit.core.training  # noqa: F401 # takes seconds, during which a signal ends this process on the spot

    found = _test(loaded, plan)
    show(found, output or (), as_json=as_json, look=pick_look(height, least_width=60, ascii_only=ascii_only))
    if found.signal_number is not None:
        done = sum(len(sweep.losses) for sweep in found.test.sweeps)
        raise Interrupted(found.signal_number, f"stopped after {done} steps of at most {repeats * steps}")


@stopped_by_signals("nothing was written")
def _test(loaded: "LoadedConfig", plan: "SweepPlan") -> "FoundRate":
    from dlkit.cli.display import prints_aside
    from dlkit.core.training import run_range_test

    with prints_aside(), _open_line() as emit:
        return run_range_test(loaded, plan, emit=emit)


@contextmanager
def _open_line() -> "Iterator[Emit]":
    """What to report to: notes once each, and on a terminal one line that says where the sweep stands."""
    from dlkit.cli.console import LiveLine, clean, quiet_pipe, stderr_console
    from dlkit.events import Note, Sweeping

    console, seen = stderr_console(), set()
    line = LiveLine(console)

    def emit(event: "Event") -> None:
        with quiet_pipe():
            if isinstance(event, Sweeping):
                line.show(
                    f"sweep {event.sweep}/{event.sweeps}  step {event.step}/{event.steps}  "
                    f"lr {event.lr:.2e}  loss {event.loss:.4g}"
                )
            elif isinstance(event, Note) and event.text not in seen:
                seen.add(event.text)
                console.print(f"[yellow]note:[/] {clean(event.text)}")

    try:
        yield emit
    finally:
        line.close()


def show(found: "FoundRate", output: Sequence[Path], *, as_json: bool, look: "Look") -> None:
    """Print what was found, and write the files."""
    facts = {name: getattr(found, name) for name in ("model", "data", "optimizer", "device")}
    if as_json:
        import json

        from dlkit.schedules import range_test_as_json

        typer.echo(json.dumps(range_test_as_json(found.test, facts, found.notes), allow_nan=False))
    else:
        from dlkit.schedules import draw_range_test

        typer.echo("\n".join(draw_range_test(found.test, _title(found), found.notes, look)))
    for path in output:
        from dlkit.schedules import save_range_test

        save_range_test(path, found.test, facts, found.notes)
        typer.echo(f"wrote {path}", err=True)


def _title(found: "FoundRate") -> str:
    plan = found.test.plan
    sweeps = f"{plan.repeats} {'sweep' if plan.repeats == 1 else 'sweeps'} of {plan.steps} steps"
    return f"lr-find · {found.model} · {found.data} · {found.optimizer} · {sweeps}, {found.num_epochs:.2g} epochs each"
