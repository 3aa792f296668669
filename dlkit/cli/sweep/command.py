"""`dlkit sweep`: search the best values of a config's keys."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.choices import PrunerName, SamplerName
from dlkit.cli.completion import complete_overrides
from dlkit.cli.config_command import ConfigCommand
from dlkit.cli.options import AsJson, Config, Overlays, RunDevice, Seed, options_as_overrides
from dlkit.cli.processes import count_processes
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.sweep import SweepRequest

EPILOG = """The same command goes on with a sweep that was stopped or killed, and joins one that runs, from any number of processes and
machines. Exit code 0 also where the time was up."""

Spaces = Annotated[
    list[str] | None,
    typer.Argument(
        help="What to search: optimizer.lr=log:1e-4..1e-1, model.width=16,32,64, train.clip=0.5..2.0:0.5. "
        "Keys of one value are changes, as in train.",
        metavar="[KEY=SPACE]...",
        show_default=False,
        autocompletion=complete_overrides,
    ),
]
Trials = Annotated[
    int | None,
    typer.Option("--trials", min=1, help="Trials in all, those of other workers included.", show_default=False),
]
Time = Annotated[
    str | None,
    typer.Option("--time", help="Time for this worker: 90s, 30m, 2h.", metavar="TIME", show_default=False),
]
Sampler = Annotated[SamplerName, typer.Option("--sampler", help="How values are drawn.")]
Pruner = Annotated[PrunerName, typer.Option("--pruner", help="How trials that are worse than others end early.")]
Folds = Annotated[
    int | None,
    typer.Option("--folds", min=2, help="Cross-validate: each trial trains on N parts.", show_default=False),
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Runs of each trial, each with another seed.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Data base that workers share: sqlite:///FILE, postgresql://...; default is a journal in the folder.",
        metavar="URL",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="The sweep's folder; default is runs/NAME-sweep.", show_default=False)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only the result and errors.")]


app = typer.Typer()


@app.command("sweep", cls=ConfigCommand, epilog=EPILOG, no_args_is_help=True)
def sweep(
    cfg: Config, spaces: Spaces = None, trials: Trials = None, time: Time = None, sampler: Sampler = "tpe",
    pruner: Pruner = "asha", folds: Folds = None, seeds: Seeds = 1, storage: Storage = None, out: Out = None,
    overlays: Overlays = None, device: RunDevice = None, seed: Seed = None, as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Search the best values of a config's keys: every trial is a run, judged on validation samples.

    Results go to the sweep's folder: a run folder for each trial, best.yaml that trains as it is, sweep.json and pictures.
    """
    from dlkit.config import load_spaces
    from dlkit.sweep import SweepRequest, check_request

    texts = [*(spaces or ()), *options_as_overrides({"runtime.device": device, "seed": seed})]
    request = SweepRequest(
        load_spaces(cfg, overlays=overlays or (), texts=texts),
        trials=trials,
        seconds=_seconds(time),
        sampler=sampler,
        pruner=pruner,
        folds=folds,
        seeds=seeds,
        storage=storage,
        out=out,
    )
    check_request(request)
    if count_processes() > 1:
        raise UsageError(
            "each trial trains in one process; start the command once for each GPU or core, without torchrun"
        )
    if find_spec("optuna") is None:
        raise UsageError("a sweep needs Optuna, not installed here: pip install 'dlkit[sweep]'")
    import dlkit.core.training  # noqa: F401 # takes seconds, during which a signal ends this process on the spot

    _run(request, as_json=as_json, quiet=quiet)


def _seconds(text: str | None) -> float | None:
    from dlkit.quantities import parse_duration_s

    try:
        return None if text is None else parse_duration_s(text)
    except ValueError as error:
        raise UsageError(f"--time: {error}") from None


def _run(request: "SweepRequest", *, as_json: bool, quiet: bool) -> None:
    from dlkit.cli.display import prints_aside
    from dlkit.cli.sweep.show import open_trials, show_result
    from dlkit.sweep import run_sweep

    with prints_aside(), open_trials(quiet=quiet) as emit:
        result = run_sweep(request, emit=emit)
    show_result(result, as_json=as_json)
