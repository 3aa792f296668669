"""`dlkit lr-plot`: see a learning-rate schedule, and what is odd about it, before training with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.cli.completion import complete_curves
from dlkit.cli.lr_plot.request import Frame, config_changes, load_metrics, plan_run, read_request
from dlkit.cli.lr_plot.tracing import check_metric_is_followed, trace_all, trace_config
from dlkit.cli.options import Force
from dlkit.cli.plain_help import PlainCommand
from dlkit.cli.plotting import AsciiOnly, Height, ValuesAsJson, pick_look

if TYPE_CHECKING:
    from dlkit.cli.lr_plot.tracing import Traced
    from dlkit.schedules import Look

CONTEXT_SETTINGS = {"ignore_unknown_options": True}
EPILOG = """A curve's own options follow as option=value or --option value: lr-plot step --step-size 30 --epochs 90;
lr-plot cosine eta_min=1e-5. Names and options: `dlkit list schedules`."""

DEFAULT_LR = 0.1

Words = Annotated[
    list[str],
    typer.Argument(
        help="A schedule, several with commas between, a composition such as 'linear 500 from 0.01; cosine rest', "
        "or a config file; then the curve's own options.",
        metavar="SCHEDULE|CFG [OPTION=VALUE]...",
        show_default=False,
        autocompletion=complete_curves,
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(
        "--lr", "--max-lr", help="The base learning rate, of a one-cycle the peak; default 0.1.", show_default=False
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help="Length of the run; 100 unless steps are given.", show_default=False),
]
Steps = Annotated[
    str | None, typer.Option("--steps", help="Length of the run in optimizer steps: 5000, 10k.", show_default=False)
]
PerEpoch = Annotated[
    int | None,
    typer.Option("--steps-per-epoch", min=1, help="Optimizer steps of an epoch; default 1.", show_default=False),
]
Unit = Annotated[str, typer.Option("--unit", "--step-on", help="What the curve counts: step, epoch or auto.")]
Warmup = Annotated[str, typer.Option("--warmup", help="Linear warm-up: 500 steps, 5% or 2ep.")]
WarmupFrom = Annotated[float, typer.Option("--warmup-from", help="The warm-up begins at this factor of the rate.")]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics", help="For plateau: a column of a metrics file.", metavar="FILE:COLUMN", show_default=False
    ),
]
Series = Annotated[
    str | None, typer.Option("--series", help="For plateau: the metric per epoch, '1 0.8 0.7*10'.", show_default=False)
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "-o", "--output", help="Also write .csv, .json, .png, .svg or .pdf; may be given again.", show_default=False
    ),
]


app = typer.Typer()


@app.command("lr-plot", cls=PlainCommand, context_settings=CONTEXT_SETTINGS, epilog=EPILOG, no_args_is_help=True)
def lr_plot(
    words: Words,
    lr: Lr = None,
    epochs: Epochs = None,
    steps: Steps = None,
    steps_per_epoch: PerEpoch = None,
    unit: Unit = "auto",
    warmup: Warmup = "0",
    warmup_from: WarmupFrom = 0.01,
    metrics: Metrics = None,
    series: Series = None,
    output: Outputs = None,
    force: Force = False,
    compare: Annotated[bool, typer.Option("--compare", help="The table of figures, also for one schedule.")] = False,
    code: Annotated[bool, typer.Option("--code", help="Print the torch code that gives the same values.")] = False,
    log: Annotated[bool, typer.Option("--log", "--logy", help="Logarithmic axis.")] = False,
    ascii_only: AsciiOnly = False,
    height: Height = 12,
    as_json: ValuesAsJson = False,
) -> None:
    """Plot a learning-rate schedule in the terminal and say what is odd about it.

    Step k, counted from 0, is the k-th optimizer.step(); the values are those that `dlkit train` uses.
    """
    from dlkit.schedules import check_result_files

    check_result_files(output or (), may_replace=force)
    request = read_request(words)
    values = load_metrics(metrics, series)
    if request.config is not None:
        changes = config_changes(lr=lr, epochs=epochs, steps=steps, unit=unit, warmup=warmup, warmup_from=warmup_from)
        traces = [trace_config(request, changes, steps_per_epoch=steps_per_epoch, metrics=values)]
    else:
        run = plan_run(epochs, steps, steps_per_epoch, num_metrics=len(values or ()))
        frame = Frame(*run, unit=unit, warmup=warmup, warmup_from=warmup_from)
        traces = trace_all(request, frame, lr=DEFAULT_LR if lr is None else lr, metrics=values)
    if values is not None:
        check_metric_is_followed(traces)
    look = pick_look(height, least_width=50, ascii_only=ascii_only, is_log=log)
    _show(traces, output or (), as_json=as_json, code=code, compare=compare, look=look)


def _show(
    traced: "Sequence[Traced]", output: Sequence[Path], *, as_json: bool, code: bool, compare: bool, look: "Look"
) -> None:
    """Print what was asked for, and write the files."""
    traces, findings = [trace for trace, _ in traced], [remarks for _, remarks in traced]
    if code:
        from dlkit.schedules import write_torch_code

        typer.echo("\n".join(write_torch_code(trace.schedule, trace.base_lr) for trace in traces), nl=False)
    elif as_json:
        import json

        from dlkit.schedules import traces_as_json

        typer.echo(json.dumps(traces_as_json(traces, findings), allow_nan=False))
    else:
        from dlkit.schedules import draw_comparison, draw_trace

        is_one = len(traces) == 1 and not compare
        lines = draw_trace(traces[0], findings[0], look) if is_one else draw_comparison(traces, findings, look)
        typer.echo("\n".join(lines))
    for path in output:
        from dlkit.schedules import save_traces

        save_traces(path, traces, findings, is_log=look.is_log)
        typer.echo(f"wrote {path}", err=True)
