"""Classes or values of the rows of a table, prepared just as the rows that the model was trained on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dlkit.config import load_mapping
from dlkit.core.data import normalize_inputs, read_rows
from dlkit.core.evaluation.answers import Answer, answers_of
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device
from dlkit.errors import UsageError
from dlkit.events import Emit, Note, ignore


@dataclass(frozen=True)
class RowPredictions:
    """What a model says of each row of a table: the cells as they are, the line where each row ends, and the answers.

    `targets` are the names of what is predicted, one for classes, one for each value else.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    targets: tuple[str, ...]
    answers: list[Answer]


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
    """Returns predictions for all rows of a table, whose columns are found by name.

    Raises UsageError when the model does not take tables, DataError for a file that is missing or does not fit, before anything
    is predicted.
    """
    info = file.spec.info
    if info.kind == "image":
        raise UsageError(f"{file.path} takes images, not tables")
    table, inputs, notes = read_rows(path, info, _table_options(file))
    for note in notes:
        emit(Note(note))
    target = pick_model_device(file, device, emit)
    network = build_from_file(file, model=model).to(target)
    answers: list[Answer] = []
    for part in torch.split(inputs, batch_size):
        normalized: Tensor = normalize_inputs(part.to(target), info)
        answers += answers_of(network, normalized, info, topk=topk)
    return RowPredictions(path, table.header, table.rows, table.lines, _target_names(file), answers)


def _table_options(file: ModelFile) -> dict[str, object]:
    """Returns how the table was read that a model was trained on. Raises UsageError where transforms of one's own follow."""
    if not file.spec.config:
        return {}
    data = load_mapping(dict(file.spec.config)).config.data
    if data.eval_transforms:
        raise UsageError(
            f"{file.path} was trained with the transform {data.eval_transforms[0].name}, which is your own code; use dlkit.load_model"
        )
    return data.options if data.name.casefold() in ("table", "csv") else {}


def _target_names(file: ModelFile) -> tuple[str, ...]:
    info = file.spec.info
    if info.task == "multilabel":
        return ("labels",)
    count = info.num_outputs if info.task == "regression" else 1
    if info.targets and len(info.targets) == count:
        return info.targets
    return ("target",) if count == 1 else tuple(f"target_{number}" for number in range(1, count + 1))
