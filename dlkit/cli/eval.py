"""`dlkit eval`: what a model file scores."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
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
    output_option,
)
from dlkit.cli.plain_help import PlainCommand
from dlkit.errors import UsageError
from dlkit.files import without_nan

if TYPE_CHECKING:
    from dlkit.core.evaluation import EvalResult
    from dlkit.core.modelfile import ModelFile as LoadedModel
    from dlkit.events import Emit

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
    model: ModelFile, data: DataOption = None, split: SplitOption = None, tta: Tta = False, picture: Picture = None,
    reliability: Reliability = None, worst: Worst = None, num_worst: NumWorst = 25,
    fit_temperature: FitTemperature = False, output: Output = None, force: Force = False, arch: ArchName = None,
    num_classes: NumClasses = None, image_size: ImageSize = None, network: Network = None, device: Device = "auto",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Score a model: accuracy, per-class numbers and confusion matrix; mAP and per-label numbers; or regression errors."""
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.config import load_data_option
    from dlkit.core.evaluation import Sheet, run_evaluation
    from dlkit.core.opening import Naming, open_model

    for path in filter(None, (picture, reliability, worst)):
        _check_picture(path, may_replace=force)
    tempered = _tempered_path(model, output, is_asked=fit_temperature, is_forced=force)
    loaded = load_data_option(data) if data else None
    with prints_aside(), open_display(quiet=as_json, verbose=False, as_json=False) as display:
        file = open_model(model, Naming(arch, num_classes, image_size, network), data=loaded, emit=display.emit)
        _check_kind(file, fits_temperature=fit_temperature, shows_images=worst is not None)
        result = run_evaluation(
            file,
            data=loaded,
            split_name=split,
            use_tta=tta,
            fits_temperature=fit_temperature,
            sheet=Sheet(worst, num_worst) if worst else None,
            model=network,
            device=device,
            emit=display.emit,
        )
        if tempered is not None:
            _save_tempered(tempered, file, result, display.emit)
    _save_pictures(result, picture, reliability)
    if as_json:
        typer.echo(json.dumps({"schema": "dlkit.eval/1", "model": str(model), **without_nan(asdict(result))}))
    else:
        _show(result, model)


def _check_picture(path: Path, *, may_replace: bool) -> None:
    from dlkit.files import PICTURES, check_ending, check_output

    check_ending(path, PICTURES)
    check_output(path, may_replace=may_replace)


def _tempered_path(model: Path, output: Path | None, *, is_asked: bool, is_forced: bool) -> Path | None:
    """Returns where the model file with its temperature goes. Raises UsageError or OutputError where it cannot."""
    from dlkit.files import check_output

    if not is_asked:
        if output is not None:
            raise UsageError("-o is for --fit-temperature, which alone writes a model file")
        return None
    if output is None and not is_forced:
        raise UsageError(f"--fit-temperature: name the new file with -o, or replace {model} with --force")
    check_output(output or model, may_replace=is_forced)
    return output or model


def _check_kind(file: "LoadedModel", *, fits_temperature: bool, shows_images: bool) -> None:
    """Raise UsageError where the model has not what is asked of it."""
    from dlkit.core.opening import is_from_elsewhere

    info = file.spec.info
    is_of_classes = info.task == "classification" and info.num_outputs > 1
    if shows_images and not (is_of_classes and info.kind == "image"):
        raise UsageError(f"--worst: {file.path} is no model of classes of images")
    if fits_temperature and is_from_elsewhere(file):
        raise UsageError(f"--fit-temperature: {file.path} is no model file; make one of it with `dlkit convert`")
    if fits_temperature and not is_of_classes:
        raise UsageError(f"--fit-temperature: {file.path} is no model of classes")


def _save_tempered(path: Path, file: "LoadedModel", result: "EvalResult", emit: "Emit") -> None:
    from dlkit.core.modelfile import save_model_file
    from dlkit.events import Saved

    info = replace(file.spec.info, temperature=result.temperature)
    save_model_file(path, replace(file.spec, info=info), file.state_dict)
    emit(Saved(path, "model"))


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

    tempered = f", probabilities at temperature {result.temperature:.4g}" if result.temperature else ""
    show_lines([f"{model} on {result.num_samples:,} {result.split} samples{tempered}", ""])
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
