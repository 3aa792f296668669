"""`dlkit eval`: what a model file scores."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.choices import SplitName
from dlkit.cli.options import (
    ArchName,
    AsJson,
    DataOption,
    Device,
    Force,
    ImageSize,
    ModelFile,
    Network,
    NumClasses,
    Overlap,
    output_option,
)
from dlkit.cli.plain_help import PlainCommand
from dlkit.files import without_nan

if TYPE_CHECKING:
    from dlkit.core.evaluation import EvalResult

MOST_TABLE_CLASSES = 20
LEAST_HEADING = 7


SplitOption = Annotated[
    SplitName | None,
    typer.Option(
        "--split", help="Which split to score; default is test, or all of a folder without splits.", show_default=False
    ),
]
Tta = Annotated[
    bool,
    typer.Option("--tta", help="Also score the mean over each image and its mirror image, of maps over scales too."),
]
SlidingWindow = Annotated[
    bool,
    typer.Option(
        "--sliding-window",
        help="Of a model of maps: score whole pictures at their own sizes, under windows of the network's size.",
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--confusion",
        help="Write the confusion matrix to this PNG, SVG or PDF file.",
        metavar="FILE",
        show_default=False,
    ),
]


Reliability = Annotated[
    Path | None,
    typer.Option(
        "--reliability",
        help="Write accuracy by confidence to this PNG, SVG or PDF file.",
        metavar="FILE",
        show_default=False,
    ),
]

Worst = Annotated[
    Path | None,
    typer.Option(
        "--worst",
        help="Write the images of the highest loss to this PNG, SVG or PDF file.",
        metavar="FILE",
        show_default=False,
    ),
]
NumWorst = Annotated[int, typer.Option("--num-worst", min=1, max=400, help="Images that --worst shows.")]


FitTemperature = Annotated[
    bool,
    typer.Option(
        "--fit-temperature", help="Fit what softens probabilities to the validation split, and keep it in -o."
    ),
]
Output = Annotated[Path | None, output_option("Model file with the temperature; --force alone replaces MODEL.")]


app = typer.Typer()


@app.command("eval", cls=PlainCommand, no_args_is_help=True)
def evaluate(
    model: ModelFile, data: DataOption = None, split: SplitOption = None, tta: Tta = False, sliding_window: SlidingWindow = False,
    overlap: Overlap = None, confusion: Picture = None, reliability: Reliability = None, worst: Worst = None, num_worst: NumWorst = 25,
    fit_temperature: FitTemperature = False, output: Output = None, force: Force = False, arch: ArchName = None,
    num_classes: NumClasses = None, image_size: ImageSize = None, network: Network = None, device: Device = "auto",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Score a model: accuracy, per-class numbers and confusion matrix; mAP and per-label numbers; or regression errors."""
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.config import load_data_option
    from dlkit.core.evaluation import EvalRequest, check_outputs, run_evaluation
    from dlkit.core.opening import Naming, open_model

    request = EvalRequest(
        data=load_data_option(data) if data else None, split=split, use_tta=tta, uses_windows=sliding_window, overlap=overlap,
        confusion=confusion, reliability=reliability, worst=worst, num_worst=num_worst, fits_temperature=fit_temperature,
        output=output, is_forced=force, model=network, device=device,
    )  # fmt: skip
    check_outputs(model, request)
    with prints_aside(), open_display(quiet=as_json, verbose=False, as_json=False) as display:
        file = open_model(model, Naming(arch, num_classes, image_size, network), data=request.data, emit=display.emit)
        result = run_evaluation(file, request, display.emit)
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.eval/1", "model": str(model), **without_nan(asdict(result))}))
    else:
        _show(result, model)


def _show(result: "EvalResult", model: Path) -> None:
    from dlkit.cli.console import show_lines, show_table
    from dlkit.core.evaluation import most_confused
    from dlkit.event_lines import metric_value

    tempered = f", probabilities at temperature {result.temperature:.4g}" if result.temperature else ""
    show_lines([f"{model} on {result.num_samples:,} {result.split} samples{tempered}", ""])
    metrics = [
        (name, metric_value(name, value), _interval(name, result.intervals.get(name)))
        for name, value in result.metrics.items()
    ]
    show_table(("metric", "value", "95 %"), metrics)
    if result.per_label:
        _show_labels(result)
    if not result.per_class:
        return
    show_lines([""])
    _show_classes(result)
    if len(result.classes) <= MOST_TABLE_CLASSES:
        show_lines(["", "confusion: rows are true classes, columns predicted ones"])
        body = [(name, *map(_count, counts)) for name, counts in zip(result.classes, result.confusion, strict=True)]
        show_table(("", *_headings(result.classes)), body)
    if pairs := most_confused(result):
        show_lines(
            ["", "most often mistaken: " + ", ".join(f"{true} for {said} ({count})" for true, said, count in pairs)]
        )


def _show_classes(result: "EvalResult") -> None:
    """A row for each class, of samples or of pixels."""
    from dlkit.cli.console import show_table

    titles = {"iou": "IoU", "dice": "Dice", "precision": "precision", "recall": "recall", "f1": "F1"}
    shown = [name for name in titles if hasattr(result.per_class[0], name)]
    rows = [(row.name, f"{row.support:,}", *(_share(getattr(row, name)) for name in shown)) for row in result.per_class]
    unit = "pixels" if "iou" in shown else "samples"
    show_table(("class", unit, *(titles[name] for name in shown)), rows)


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2%}"


def _show_labels(result: "EvalResult") -> None:
    from dlkit.cli.console import show_lines, show_table

    rows = [
        (
            row.name,
            f"{row.support:,}",
            *map(_share, (row.auroc, row.average_precision)),
            *(f"{value:.2%}" for value in (row.precision, row.recall, row.f1)),
            f"{row.threshold:.3f}",
        )
        for row in result.per_label
    ]
    show_lines([""])
    show_table(("label", "samples", "AUROC", "AP", "precision", "recall", "F1", "threshold"), rows)


def _interval(name: str, ends: "Sequence[float] | None") -> str:
    from dlkit.event_lines import metric_value

    return " to ".join(metric_value(name, end) for end in ends or ())


def _headings(classes: Sequence[str]) -> list[str]:
    """The names of the classes, cut as far as the terminal is too narrow for them; a file or a pipe has room for all."""
    from dlkit.cli.console import terminal_width

    width, longest = terminal_width(), max(map(len, classes))
    room = longest if width is None else (width - longest - 2) // len(classes) - 2
    return [name[: max(room, LEAST_HEADING)] for name in classes]


def _count(count: int) -> str:
    return str(count) if count else "."
