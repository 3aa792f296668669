"""`dlkit train`: from a config to a trained model file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.choices import Extension
from dlkit.cli.config_command import ConfigCommand
from dlkit.cli.options import Config, Overlays, Overrides, RunDevice, Seed, options_as_overrides
from dlkit.cli.processes import count_processes, has_to_launch, hold_lifeline, is_main_process, launch
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.cli.display import Display
    from dlkit.config import LoadedConfig

Epochs = Annotated[int | None, typer.Option("--epochs", help="As train.epochs=N.", metavar="N", show_default=False)]
Lr = Annotated[float | None, typer.Option("--lr", help="As optimizer.lr=RATE.", metavar="RATE", show_default=False)]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help="As data.batch_size=N.", metavar="N", show_default=False)
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The run folder itself; default is the next free runs/NAME-NNN.", show_default=False),
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run folder.", show_default=False)]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        help="Go on with a run folder or a checkpoint; without PATH, with the newest run.",
        metavar="[PATH]",
        show_default=False,
    ),
]
ResumeRelaxed = Annotated[
    bool, typer.Option("--resume-relaxed", help="Resume in spite of changed settings or data; each is told.")
]
Extend = Annotated[
    Extension | None,
    typer.Option(
        "--extend",
        help="Resume into another length: stretch lays the schedule over it from here on, tail holds its last rate.",
        show_default=False,
    ),
]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", min=1, help="Stop after N optimizer steps.", show_default=False)
]
Overfit = Annotated[
    int | None,
    typer.Option(
        "--overfit",
        min=1,
        help="Train on N fixed batches without augmentation, to see that the model can learn.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Build and check everything, make two real steps, write nothing.")
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Show the config with every `auto` resolved, and stop.")
]
Nproc = Annotated[
    int | None,
    typer.Option("--nproc", min=1, help="Train with N processes on this machine (DDP).", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only the result and errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also say what is saved when.")]


app = typer.Typer()


@app.command("train", cls=ConfigCommand, no_args_is_help=True)
def train(
    cfg: Config, overrides: Overrides = None, overlays: Overlays = None, epochs: Epochs = None, lr: Lr = None,
    batch_size: BatchSize = None, out: Out = None, name: Name = None, resume: Resume = None,
    resume_relaxed: ResumeRelaxed = False, extend: Extend = None, device: RunDevice = None,
    seed: Seed = None, max_steps: MaxSteps = None, nproc: Nproc = None, overfit: Overfit = None, dry_run: DryRun = False,
    print_config: PrintConfig = False, as_json: AsJson = False, quiet: Quiet = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Train a model from one YAML file.

    Progress goes to stderr, the result to stdout. Ctrl-C saves and exits with 130; a second one stops at once.
    """
    from dlkit.cli.display import open_display

    given: dict[str, object] = {"name": name, "runtime.device": device, "seed": seed, "train.max_steps": max_steps}
    given |= {"train.epochs": epochs, "optimizer.lr": lr, "data.batch_size": batch_size}
    changes = [*(overrides or ()), *options_as_overrides(given)]
    loaded = _load(cfg, overlays or [], changes, overfit, nproc or count_processes())
    if has_to_launch(nproc):
        launch(nproc or 1, sys.argv[1:])
    hold_lifeline()
    import dlkit.core.training  # noqa: F401 # takes seconds, during which a signal ends this process on the spot

    is_quiet = quiet or not is_main_process()
    with open_display(quiet=is_quiet, verbose=verbose, as_json=as_json) as display:
        if print_config:
            _print_config(loaded, display)
        elif dry_run:
            _run_dry(loaded, out, display, as_json=as_json)
        else:
            asked = (resume, resume_relaxed, extend)
            _run(loaded, out, asked, display=display, as_json=as_json)


def _load(
    cfg: Path, overlays: list[Path], changes: list[str], overfit: int | None, num_processes: int
) -> "LoadedConfig":
    from dlkit.config import load_config

    loaded = load_config(cfg, overlays=overlays, overrides=changes)
    if overfit is None:
        return loaded
    # nothing but the fixed batches: no held-out samples, no augmentation, no other order
    num_samples = overfit * loaded.config.data.batch_size * num_processes
    fixed = [f"data.limit={num_samples}", "data.val=none", "data.fold=null", "data.test=none", "data.transforms=[]"]
    fixed += ["data.mixing=null", "data.sampling=none", "data.repeats=1", "checkpoint.average=null"]
    fixed += ["data.batch_transforms=[]", "data.shuffle=false", "train.early_stop=null", "checkpoint.metric=auto"]
    return load_config(cfg, overlays=overlays, overrides=[*changes, *fixed])


def _print_config(loaded: "LoadedConfig", display: "Display") -> None:
    from dlkit.cli.display import prints_aside
    from dlkit.config import dump_config
    from dlkit.core.training import resolve_config

    with prints_aside():
        resolved = dump_config(resolve_config(loaded, emit=display.emit))
    if is_main_process():
        typer.echo(resolved, nl=False)


def _run_dry(loaded: "LoadedConfig", out: Path | None, display: "Display", *, as_json: bool) -> None:
    from dlkit.cli.display import prints_aside
    from dlkit.cli.train.show import show_dry_run
    from dlkit.core.training import run_dry

    with prints_aside():
        dry = run_dry(loaded, out=out, emit=display.emit)
    if is_main_process():
        show_dry_run(dry, as_json=as_json)


def _run(
    loaded: "LoadedConfig",
    out: Path | None,
    asked: tuple[Path | None, bool, Extension | None],
    *,
    display: "Display",
    as_json: bool,
) -> None:
    from dlkit.cli.display import prints_aside
    from dlkit.cli.train.show import show_result
    from dlkit.core.training import Resume, run_training
    from dlkit.report import write_run_page

    path, is_relaxed, extend = asked
    if path is None and (is_relaxed or extend):
        raise UsageError(f"{'--resume-relaxed' if is_relaxed else '--extend'} goes with --resume")
    with prints_aside():
        resume = Resume(path, is_relaxed, extend) if path else None
        result = run_training(loaded, out=out, resume=resume, write_page=write_run_page, emit=display.emit)
    display.close()
    if is_main_process():
        show_result(result, as_json=as_json)
