"""`dlkit lr-plot`: see a learning-rate schedule, and what is odd about it, before training with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.cli.lr_plot.request import Frame, LrPlotRequest, config_changes, load_metrics, plan_run, read_request
from dlkit.cli.plotting import AsciiOnly, Height, ValuesAsJson, pick_look
from dlkit.errors import UsageError

if TYPE_CHECKING:
    from dlkit.schedules import Finding, Look, LrSchedule, Trace

    Traced = tuple[Trace, list[Finding]]

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
    from dlkit.schedules import check_result_file

    for path in output or ():
        check_result_file(path)
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
    show(traces, output or (), as_json=as_json, code=code, compare=compare, look=look)


def check_metric_is_followed(traces: "Sequence[Traced]") -> None:
    """Raise UsageError for a metric that no plateau follows."""
    if not any(trace.schedule.is_plateau for trace, _ in traces):
        raise UsageError("--metrics and --series are what a plateau follows; this schedule takes no metric")


def trace_all(request: LrPlotRequest, frame: Frame, *, lr: float, metrics: Sequence[float] | None) -> "list[Traced]":
    """Follow every schedule of the request. An option goes to the schedules that take it, at least to one."""
    if not lr > 0:
        raise UsageError(f"--lr must be above 0, got {lr:g}")
    return [
        _trace_one(name, options, frame, lr=lr, metrics=metrics)
        for name, options in zip(request.names, _share_options(request), strict=True)
    ]


def trace_config(
    request: LrPlotRequest, changes: Sequence[str], *, steps_per_epoch: int | None, metrics: Sequence[float] | None
) -> "Traced":
    """Follow the schedule that `dlkit train` uses for a config; the data are opened to count steps unless given."""
    from dlkit.config import load_config

    assert request.config is not None
    loaded = load_config(request.config, overrides=[*request.overrides, *changes])
    from dlkit.core.training import plan_schedule

    accumulate = loaded.config.train.accumulate
    schedule, lr = plan_schedule(loaded, num_batches=steps_per_epoch and steps_per_epoch * accumulate)
    return _follow(schedule, lr, metrics)


def _share_options(request: LrPlotRequest) -> list[dict[str, Any]]:
    if len(request.names) == 1:
        return [dict(request.options)]
    taken = [known_options(name) or request.options for name in request.names]
    if lost := [option for option in request.options if not any(option in known for known in taken)]:
        raise UsageError(f"none of {', '.join(request.names)} takes {lost[0]!r}")
    return [{option: value for option, value in request.options.items() if option in known} for known in taken]


def known_options(name: str) -> tuple[str, ...] | None:
    """The options of a built-in curve, or None for any other."""
    from dataclasses import fields

    from dlkit.schedules import find_curve

    try:
        return tuple(option.name for option in fields(find_curve(name)[1]))
    except UsageError:
        return None


def _trace_one(
    name: str, options: Mapping[str, Any], frame: Frame, *, lr: float, metrics: Sequence[float] | None
) -> "Traced":
    from dlkit.schedules import Finding

    filled = _fill_in(name, options, frame, lr=lr)
    schedule = _build(name, {**options, **filled}, frame, lr=lr)
    trace, findings = _follow(schedule, lr, metrics)
    words = {option: f"{value:.6g}" if isinstance(value, float) else f"{value}" for option, value in filled.items()}
    advice = "is only for this plot: a config has to give it"
    return trace, findings + [Finding("stand-in", f"{option}={value} {advice}") for option, value in words.items()]


def _follow(schedule: "LrSchedule", lr: float, metrics: Sequence[float] | None) -> "Traced":
    from dlkit.schedules import audit, follow

    if schedule.is_plateau and metrics is None:
        raise UsageError("plateau follows a metric: give --metrics FILE:COLUMN or --series '1 0.8 0.7*10'")
    trace = follow(schedule, lr, metrics)
    return trace, audit(trace)


def _fill_in(name: str, options: Mapping[str, Any], frame: Frame, *, lr: float) -> dict[str, Any]:
    """What a built-in curve needs and was not given."""
    from dlkit.schedules import find_curve, stand_ins

    if known_options(name) is None:
        return {}
    is_dated = getattr(find_curve(name)[1], "is_dated", False)
    in_epochs = frame.unit == "epoch" or (frame.unit == "auto" and is_dated)
    length = -(-frame.total_steps // frame.steps_per_epoch) if in_epochs else frame.total_steps
    return stand_ins(name, options, length=length, base_lr=lr)


def _build(name: str, options: Mapping[str, Any], frame: Frame, *, lr: float) -> "LrSchedule":
    """A built-in schedule, or a torch scheduler class by name or import path; only the second imports torch."""
    from dlkit.schedules import Constant, LrSchedule, build_schedule

    steps, per_epoch, warmup = frame.total_steps, frame.steps_per_epoch, frame.warmup_steps
    if known_options(name) is None:
        _refuse_unknown(name)
        from dlkit.core.training import build_torch_schedule

        unit = "step" if frame.unit == "auto" else frame.unit
        place = LrSchedule(name, Constant(), unit, steps, per_epoch, warmup, frame.warmup_from)
        return build_torch_schedule(name, options, place, base_lrs=[lr])
    return build_schedule(
        name,
        options,
        unit=frame.unit,
        warmup_steps=warmup,
        warmup_from=frame.warmup_from,
        total_steps=steps,
        steps_per_epoch=per_epoch,
    )


def _refuse_unknown(name: str) -> None:
    """Raise UsageError for what is neither an import path nor named like a torch class, before torch is imported."""
    if ":" in name or name.lower().endswith(("lr", "restarts", "scheduler")):
        return
    from dlkit.registry import entries
    from dlkit.suggestions import did_you_mean

    ours = [entry for entry in entries("schedules").values() if entry.is_ours]
    hint = did_you_mean(name, [spelling for entry in ours for spelling in entry.spellings])
    raise UsageError(f"no schedule {name!r}.{hint} There are {', '.join(entry.name for entry in ours)}")


def show(
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
