"""`dlkit predict`: what a model says of images, or of the rows of a table or an array."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlkit.cli.options import ArchName, Device, Force, ImageSize, ModelFile, Network, NumClasses, WeightsData
from dlkit.errors import DataError, OutputError, UsageError

if TYPE_CHECKING:
    from dlkit.core.evaluation import Answer, ImagePrediction, RowPredictions
    from dlkit.core.modelfile import ModelFile as LoadedModel

MOST_SHOWN = 10
MOST_ROWS = 20


TopK = Annotated[
    int, typer.Option("--topk", min=1, help="Classes to show per image or row; of labels all are shown that are found.")
]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Write all predictions to this csv or jsonl file.", metavar="FILE", show_default=False
    ),
]
Probs = Annotated[bool, typer.Option("--probs", help="Tell the probability of every class; with --out or --json.")]


@dataclass(frozen=True)
class _Asked:
    """How to predict, where the predictions go, and the classes of which each probability is told."""

    topk: int
    network: str | None
    device: str
    out: Path | None
    as_json: bool
    shares_of: tuple[str, ...] = ()


def predict(
    model: ModelFile,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Images, or folders of them; or one table, npz or npy file.", metavar="FILE...", show_default=False
        ),
    ],
    topk: TopK = 5,
    out: OutFile = None,
    probs: Probs = False,
    arch: ArchName = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    force: Force = False,
    network: Network = None,
    data: WeightsData = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per image or row.")] = False,
) -> None:
    """Predict the classes, or values, of images, of rows of a table or of an array, prepared as the model's own evaluation data was."""
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.config import load_data_option
    from dlkit.core.data import is_array_file
    from dlkit.core.opening import Naming, open_model

    if out is not None:
        _check_out(out, inputs, may_replace=force)
    if probs and out is None and not as_json:
        raise UsageError("--probs goes into a file or JSON: add --out FILE or --json")
    loaded = load_data_option(data) if data else None
    with prints_aside(), open_display(quiet=as_json, verbose=False, as_json=False) as display:
        file = open_model(
            model, Naming(arch, num_classes, image_size, network), data=loaded, uses_data=False, emit=display.emit
        )
    shares_of = _classes_of(file) if probs else ()
    is_rows = file.spec.info.kind != "image" or any(map(is_array_file, inputs))
    run = _predict_rows if is_rows else _predict_images
    run(file, inputs, _Asked(max(topk, len(shares_of)), network, device, out, as_json, shares_of))


def _classes_of(file: "LoadedModel") -> tuple[str, ...]:
    info = file.spec.info
    if info.task != "classification" or info.num_outputs < 2:
        raise UsageError(f"--probs: {file.path} is no model of classes")
    return info.classes or tuple(map(str, range(info.num_outputs)))


def _check_out(out: Path, inputs: list[Path], *, may_replace: bool) -> None:
    from dlkit.files import check_ending, check_output

    check_ending(out, (".csv", ".jsonl"))
    check_output(out, may_replace=may_replace, advice="give another name, or --force")
    if any(path.exists() and out.exists() and path.samefile(out) for path in inputs):
        raise OutputError(f"{out} is what is predicted; give another name with --out")


def _predict_images(file: "LoadedModel", paths: list[Path], asked: _Asked) -> None:
    from dlkit.cli.display import made_aside
    from dlkit.core.evaluation import predict_images

    predictions = made_aside(predict_images(file, paths, topk=asked.topk, model=asked.network, device=asked.device))
    if asked.out is not None:
        predictions = iter(_save_images(list(predictions), asked.out, asked.shares_of))
    if asked.as_json:
        problems = _show_json(predictions)
    else:
        problems = _show_rows(predictions) if asked.out is None else _show_count(predictions, asked.out)
    if problems:
        more = f"\n  and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        raise DataError(
            f"{len(problems)} of the files cannot be read as images:\n  " + "\n  ".join(problems[:MOST_SHOWN]) + more
            if len(problems) > 1
            else problems[0]
        )


def _save_images(
    predictions: "list[ImagePrediction]", out: Path, shares_of: tuple[str, ...]
) -> "list[ImagePrediction]":
    """Write a row for each image, with what is wrong with those that cannot be read; return the predictions again."""
    if out.suffix.lower() == ".jsonl":
        _write_lines(out, map(_facts_of_image, predictions))
        return predictions
    num_values = max((len(prediction.values) for prediction in predictions), default=0)
    names = [f"value_{number}" for number in range(1, num_values + 1)] or ["prediction", "probability"]
    names += [f"probability_{name}" for name in shares_of]
    rows = [
        (str(prediction.path), *(_cells(prediction, shares_of) or [""] * len(names)), prediction.problem)
        for prediction in predictions
    ]
    _write_csv(out, ("image", *names, "problem"), rows)
    return predictions


def _show_count(predictions: "Iterable[ImagePrediction]", out: Path) -> list[str]:
    """A line on what was written; the problems met."""
    from dlkit.cli.console import show_lines

    problems = [prediction.problem for prediction in predictions]
    show_lines([f"{len(problems):,} images: {out}"])
    return [problem for problem in problems if problem]


def _predict_rows(file: "LoadedModel", paths: list[Path], asked: _Asked) -> None:
    from dlkit.cli.display import open_display, prints_aside
    from dlkit.core.evaluation import predict_rows

    if len(paths) != 1 or paths[0].is_dir():
        raise UsageError("rows are taken from one file alone: a table with its columns, an npz or an npy file")
    with prints_aside(), open_display(quiet=asked.as_json, verbose=False, as_json=False) as display:
        found = predict_rows(
            file, paths[0], topk=asked.topk, model=asked.network, device=asked.device, emit=display.emit
        )
    if asked.out is not None:
        _save_rows(found, asked.out, asked.shares_of)
    if asked.as_json:
        for facts in _facts_of_rows(found):
            typer.echo(json.dumps(facts))
        return
    _show_table(found, asked.out)


def _facts_of_rows(found: "RowPredictions") -> "Iterable[dict[str, Any]]":
    for number, answer in zip(found.numbers, found.answers, strict=True):
        place = {"file": str(found.path), found.number_is: number}
        yield {"schema": "dlkit.predict/1", **place} | _facts_of(answer)


def _save_rows(found: "RowPredictions", out: Path, shares_of: tuple[str, ...]) -> None:
    """Write the rows as they are, with the predictions beside them; as JSON, the predictions by number."""
    if out.suffix.lower() == ".jsonl":
        _write_lines(out, _facts_of_rows(found))
        return
    is_classes = bool(found.answers[0].classes) or found.answers[0].labels is not None
    names = [f"predicted_{name}" for name in found.targets] + ["probability"] * is_classes
    names += [f"probability_{name}" for name in shares_of]
    if taken := [name for name in names if name in found.header]:
        raise DataError(f"{found.path} has a column {taken[0]!r} already, which --out would write; rename it")
    rows = [(*cells, *_cells(answer, shares_of)) for cells, answer in zip(found.rows, found.answers, strict=True)]
    _write_csv(out, (*found.header, *names), rows)


def _cells(answer: "Answer | ImagePrediction", shares_of: tuple[str, ...]) -> list[str]:
    """Returns the likeliest class with its probability and those of these classes, the labels with theirs, parted by `;`, or the values."""
    if answer.labels is not None:
        return [";".join(name for name, _ in answer.labels), ";".join(f"{value:.6g}" for _, value in answer.labels)]
    if answer.classes:
        name, probability = answer.classes[0]
        shares = dict(answer.classes)
        return [name, f"{probability:.6g}", *(f"{shares[other]:.6g}" for other in shares_of)]
    return [f"{value:.9g}" for value in answer.values]


def _write_lines(path: Path, rows: "Iterable[dict[str, Any]]") -> None:
    from dlkit.files import write_text

    write_text(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def _write_csv(path: Path, header: tuple[str, ...], rows: "Iterable[tuple[str, ...]]") -> None:
    import csv
    import io

    from dlkit.files import write_text

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _show_table(found: "RowPredictions", out: Path | None) -> None:
    from dlkit.cli.console import show_lines, show_table

    count, what = len(found.answers), " and ".join(found.targets)
    if out is not None:
        show_lines([f"{what} of {count:,} rows: {out}"])
        return
    shown = list(zip(found.numbers, found.answers, strict=True))[:MOST_ROWS]
    show_table((found.number_is, what, "then"), [(str(number), *_ranked(answer)) for number, answer in shown], left=3)
    if count > len(shown):
        show_lines([f"and {count - len(shown):,} more rows: --out FILE writes all"])


def _ranked(answer: "Answer | ImagePrediction") -> tuple[str, str]:
    """Returns the best in words, and the others."""
    if answer.labels is not None:
        return ", ".join(f"{name} {value:.1%}" for name, value in answer.labels) or "no label", ""
    words = [f"{name} {value:.1%}" for name, value in answer.classes] or [f"{value:.5g}" for value in answer.values]
    return words[0], ", ".join(words[1:])


def _facts_of(answer: "Answer | ImagePrediction") -> dict[str, Any]:
    if answer.labels is not None:
        return {"labels": [{"label": name, "probability": value} for name, value in answer.labels]}
    classes = [{"class": name, "probability": value} for name, value in answer.classes]
    return {"predictions": classes} if classes else {"values": answer.values}


def _show_json(predictions: "Iterable[ImagePrediction]") -> list[str]:
    """One object per image; the problems met."""
    problems = []
    for prediction in predictions:
        if prediction.problem:
            problems.append(prediction.problem)
        typer.echo(json.dumps(_facts_of_image(prediction)))
    return problems


def _facts_of_image(prediction: "ImagePrediction") -> dict[str, Any]:
    result = {"error": prediction.problem} if prediction.problem else _facts_of(prediction)
    return {"schema": "dlkit.predict/1", "image": str(prediction.path), **result}


def _show_rows(predictions: "Iterable[ImagePrediction]") -> list[str]:
    """A table of all images that could be read; the problems met."""
    from dlkit.cli.console import show_table

    rows, problems = [], []
    for prediction in predictions:
        if prediction.problem:
            problems.append(prediction.problem)
            continue
        rows.append((str(prediction.path), *_ranked(prediction)))
    if rows:
        show_table(("image", "prediction", "then"), rows, left=3)
    return problems
