"""`dlkit eval`: what a model file scores."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlkit.choices import SplitName
from dlkit.cli.options import ArchName, AsJson, DataOption, Device, ImageSize, ModelFile, Network, NumClasses
from dlkit.errors import UsageError
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
Tta = Annotated[bool, typer.Option("--tta", help="Also score the mean over each image and its mirror image.")]
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


def evaluate(
    model: ModelFile,
    data: DataOption = None,
    split: SplitOption = None,
    tta: Tta = False,
    picture: Picture = None,
    reliability: Reliability = None,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    network: Network = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a model: accuracy, per-class numbers and confusion matrix; mAP and per-label numbers; or regression errors."""
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.config import load_data_option
    from dlkit.core.evaluation import run_evaluation
    from dlkit.core.opening import Naming, open_model

    for path in filter(None, (picture, reliability)):
        _check_picture(path)
    loaded = load_data_option(data) if data else None
    with prints_aside(), open_display(quiet=as_json, verbose=False, as_json=False) as display:
        file = open_model(model, Naming(arch, num_classes, image_size, network), data=loaded, emit=display.emit)
        result = run_evaluation(
            file,
            data=loaded,
            split_name=split,
            use_tta=tta,
            model=network,
            device=device,
            emit=display.emit,
        )
    _save_pictures(result, picture, reliability)
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.eval/1", "model": str(model), **without_nan(asdict(result))}))
    else:
        _show(result, model)


def _check_picture(path: Path) -> None:
    from dlkit.files import PICTURES, check_ending, check_output

    check_ending(path, PICTURES)
    check_output(path, may_replace=True)


def _save_pictures(result: "EvalResult", confusion: Path | None, reliability: Path | None) -> None:
    from dlkit.core.evaluation import save_confusion_picture, save_reliability_picture

    if (confusion or reliability) and not result.confusion:
        option, what = ("--confusion", "a confusion matrix") if confusion else ("--reliability", "confidences")
        raise UsageError(f"{option}: only a model of classes has {what}")
    if confusion is not None:
        save_confusion_picture(confusion, result.confusion, result.classes)
    if reliability is not None:
        save_reliability_picture(reliability, result.reliability)


def _show(result: "EvalResult", model: Path) -> None:
    from dlkit.cli.console import show_lines, show_table
    from dlkit.core.evaluation import most_confused
    from dlkit.event_lines import metric_value

    show_lines([f"{model} on {result.num_samples:,} {result.split} samples", ""])
    show_table(("metric", "value"), [(name, metric_value(name, value)) for name, value in result.metrics.items()])
    if result.per_label:
        _show_labels(result)
    if not result.per_class:
        return
    rows = [
        (row.name, str(row.support), f"{row.precision:.2%}", f"{row.recall:.2%}", f"{row.f1:.2%}")
        for row in result.per_class
    ]
    show_lines([""])
    show_table(("class", "samples", "precision", "recall", "F1"), rows)
    if len(result.classes) <= MOST_TABLE_CLASSES:
        show_lines(["", "confusion: rows are true classes, columns predicted ones"])
        body = [(name, *map(_count, counts)) for name, counts in zip(result.classes, result.confusion, strict=True)]
        show_table(("", *_headings(result.classes)), body)
    if pairs := most_confused(result):
        show_lines(
            ["", "most often mistaken: " + ", ".join(f"{true} for {said} ({count})" for true, said, count in pairs)]
        )


def _show_labels(result: "EvalResult") -> None:
    from dlkit.cli.console import show_lines, show_table

    rows = [
        (
            row.name,
            f"{row.support:,}",
            f"{row.average_precision:.2%}" if row.support else "",
            *(f"{value:.2%}" for value in (row.precision, row.recall, row.f1)),
            f"{row.threshold:.3f}",
        )
        for row in result.per_label
    ]
    show_lines([""])
    show_table(("label", "samples", "AP", "precision", "recall", "F1", "threshold"), rows)


def _headings(classes: Sequence[str]) -> list[str]:
    """The names of the classes, cut as far as the terminal is too narrow for them; a file or a pipe has room for all."""
    from dlkit.cli.console import terminal_width

    width, longest = terminal_width(), max(map(len, classes))
    room = longest if width is None else (width - longest - 2) // len(classes) - 2
    return [name[: max(room, LEAST_HEADING)] for name in classes]


def _count(count: int) -> str:
    return str(count) if count else "."
