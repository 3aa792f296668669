"""Classes or values of the rows of a table or of an array, prepared just as the samples that the model was trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dlkit.config import Data, load_mapping
from dlkit.core.data import is_array_file, normalize_inputs, prepare_image, read_array_rows, read_rows
from dlkit.core.evaluation.answers import Answer, answers_of
from dlkit.core.evaluation.predict_images import eval_transform_of
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device
from dlkit.errors import UsageError
from dlkit.events import Emit, Note, ignore


@dataclass(frozen=True)
class RowPredictions:
    """What a model says of each row: its cells as they are, its number, and the answers.

    The `number_is` the line where the row of a table ends, or the row of an array, from 0, which has no other cells. `targets` are the
    names of what is predicted, one for classes, one for each value else.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    number_is: str
    numbers: tuple[int, ...]
    targets: tuple[str, ...]
    answers: list[Answer]


@dataclass(frozen=True)
class _Rows:
    """Rows that were read: raw inputs, and what makes a batch of the model's inputs of some of them."""

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    number_is: str
    numbers: tuple[int, ...]
    inputs: Tensor
    prepare: Callable[[Tensor], Tensor]


def predict_rows(
    file: ModelFile,
    path: Path,
    *,
    topk: int = 5,
    model: str | None = None,
    device: str = "auto",
    batch_size: int = 1024,
    emit: Emit = ignore,
) -> RowPredictions:
    """Returns predictions for all rows of a table, whose columns are found by name, or of an array in an npz or npy file.

    Raises UsageError when the model does not take such rows, DataError for a file that is missing or does not fit, before anything
    is predicted.
    """
    rows = (_array_rows if is_array_file(path) else _table_rows)(file, path, emit)
    target = pick_model_device(file, device, emit)
    network = build_from_file(file, model=model).to(target)
    answers: list[Answer] = []
    for part in torch.split(rows.inputs, batch_size):
        answers += answers_of(network, rows.prepare(part).to(target), file.spec.info, topk=topk)
    return RowPredictions(path, rows.header, rows.cells, rows.number_is, rows.numbers, _target_names(file), answers)


def _table_rows(file: ModelFile, path: Path, emit: Emit) -> _Rows:
    info = file.spec.info
    if info.kind == "image":
        raise UsageError(f"{file.path} takes images, not tables")
    table, inputs, notes = read_rows(path, info, _options_of(file, "table", "csv"))
    for note in notes:
        emit(Note(note))
    return _Rows(table.header, table.rows, "line", table.lines, inputs, partial(normalize_inputs, info=info))


def _array_rows(file: ModelFile, path: Path, emit: Emit) -> _Rows:
    info = file.spec.info
    inputs, notes = read_array_rows(path, info, _options_of(file, "npz"))
    for note in notes:
        emit(Note(note))
    numbers = tuple(range(len(inputs)))
    cells = tuple((str(number),) for number in numbers)
    if info.kind != "image":
        return _Rows(("row",), cells, "row", numbers, inputs, partial(normalize_inputs, info=info))
    transform = eval_transform_of(file)

    def prepare(images: Tensor) -> Tensor:
        return torch.stack([prepare_image(image, info, transform=transform) for image in images])

    return _Rows(("row",), cells, "row", numbers, inputs, prepare)


def _options_of(file: ModelFile, *names: str) -> dict[str, object]:
    """Returns how the data were read that a model was trained on, where they have one of these names.

    Raises UsageError where transforms of one's own follow on vectors or sequences.
    """
    if not file.spec.config:
        return {}
    data: Data = load_mapping(dict(file.spec.config)).config.data
    if data.eval_transforms and file.spec.info.kind != "image":
        raise UsageError(
            f"{file.path} was trained with the transform {data.eval_transforms[0].name}, which is your own code; use dlkit.load_model"
        )
    return data.options if data.name.casefold() in names else {}


def _target_names(file: ModelFile) -> tuple[str, ...]:
    info = file.spec.info
    if info.task == "multilabel":
        return ("labels",)
    count = info.num_outputs if info.task == "regression" else 1
    if info.targets and len(info.targets) == count:
        return info.targets
    return ("target",) if count == 1 else tuple(f"target_{number}" for number in range(1, count + 1))
