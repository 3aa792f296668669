"""Classes or values of the rows of a table or of an array, prepared just as the samples that the model was trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dlkit.config import Data, load_mapping
from dlkit.core.data import (
    is_array_file,
    normalize_inputs,
    prepare_image,
    printable,
    read_array_rows,
    read_image_rows,
    read_rows,
)
from dlkit.core.evaluation.answers import Answer, answer_all, target_names
from dlkit.core.evaluation.predict_images import eval_transform_of, image_preparation, refuse_maps
from dlkit.core.modelfile import ModelFile, build_from_file, pick_model_device
from dlkit.errors import UsageError
from dlkit.events import Emit, Note, ignore

NO_DATA = Data(name="none")


@dataclass(frozen=True)
class RowPredictions:
    """What a model says of each row: its cells as they are, its number, and the answers.

    The `number_is` the line where the row of a table ends, or the row of an array, from 0, which has no other cells. `targets` are the
    names of what is predicted, one for classes, one for each value else. Rows of a table of `images` may have problems for answers.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    number_is: str
    numbers: tuple[int, ...]
    targets: tuple[str, ...]
    answers: list[Answer]
    images: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Rows:
    """Rows that were read, and what makes the model's inputs of some of them, or says in a text why there is none."""

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    number_is: str
    numbers: tuple[int, ...]
    prepare: Callable[[slice], Sequence[Tensor | str]]
    images: tuple[str, ...] | None = None


def predict_rows(
    file: ModelFile,
    path: Path,
    *,
    topk: int = 5,
    image_column: str | None = None,
    model: str | None = None,
    device: str = "auto",
    emit: Emit = ignore,
) -> RowPredictions:
    """Returns predictions for all rows of a table, whose columns are found by name, or of an array in an npz or npy file.

    Of a table of images, the column of files is the `image_column`, or that of the table which the model was trained on. Raises
    UsageError when the model does not take such rows, DataError for a file that is missing or does not fit, before anything is
    predicted; a picture that cannot be read is a problem of its row alone.
    """
    refuse_maps(file)
    rows = _read(file, path, image_column, emit)
    target = pick_model_device(file, device, emit)
    network = build_from_file(file, model=model).to(target)
    batch_size = 64 if file.spec.info.kind == "image" else 1024
    answers: list[Answer] = []
    for start in range(0, len(rows.numbers), batch_size):
        inputs = rows.prepare(slice(start, start + batch_size))
        answers += answer_all(network, inputs, file.spec.info, topk=topk, device=target)
    names = target_names(file.spec.info)
    return RowPredictions(path, rows.header, rows.cells, rows.number_is, rows.numbers, names, answers, rows.images)


def _read(file: ModelFile, path: Path, image_column: str | None, emit: Emit) -> _Rows:
    is_table_of_images = file.spec.info.kind == "image" and not is_array_file(path)
    if image_column is not None and not is_table_of_images:
        raise UsageError("--image-column names the picture files in a table, for a model of images")
    if is_table_of_images:
        return _image_rows(file, path, image_column, emit)
    return (_array_rows if is_array_file(path) else _table_rows)(file, path, emit)


def _table_rows(file: ModelFile, path: Path, emit: Emit) -> _Rows:
    info = file.spec.info
    table, inputs, notes = read_rows(path, info, _data_of(file, "table", "csv").options)
    _tell(notes, emit)
    return _Rows(
        table.header, table.rows, "line", table.lines, lambda part: normalize_inputs(inputs[part], info).unbind()
    )


def _image_rows(file: ModelFile, path: Path, image_column: str | None, emit: Emit) -> _Rows:
    data = _data_of(file, "images")
    column = image_column or data.options.get("image")
    if not isinstance(column, str):
        raise UsageError(
            f"{file.path} was not trained on a table of images: --image-column names the column of files in {path}"
        )
    root = None if data.root == "auto" else data.root
    skips_bad = data.on_bad == "skip"
    table, paths, notes = read_image_rows(path, column, data.options, root=root, skips_bad=skips_bad)
    _tell(notes, emit)
    prepare = image_preparation(file)

    def inputs_of(part: slice) -> list[Tensor | str]:
        found = enumerate(map(prepare, paths[part]), part.start)
        return [f"{table.place(row)}: {value}" if isinstance(value, str) else value for row, value in found]

    return _Rows(table.header, table.rows, "line", table.lines, inputs_of, tuple(map(printable, paths)))


def _array_rows(file: ModelFile, path: Path, emit: Emit) -> _Rows:
    info = file.spec.info
    inputs, notes = read_array_rows(path, info, _data_of(file, "npz").options)
    _tell(notes, emit)
    numbers = tuple(range(len(inputs)))
    cells = tuple((str(number),) for number in numbers)
    if info.kind != "image":
        return _Rows(("row",), cells, "row", numbers, lambda part: normalize_inputs(inputs[part], info).unbind())
    transform = eval_transform_of(file)
    return _Rows(
        ("row",),
        cells,
        "row",
        numbers,
        lambda part: [prepare_image(image, info, transform=transform) for image in inputs[part]],
    )


def _tell(notes: Sequence[str], emit: Emit) -> None:
    for note in notes:
        emit(Note(note))


def _data_of(file: ModelFile, *names: str) -> Data:
    """Returns the data section of the config that a model was trained with, where the data have one of these names; else an empty one.

    Raises UsageError where transforms of one's own follow on vectors or sequences.
    """
    if not file.spec.config:
        return NO_DATA
    data: Data = load_mapping(dict(file.spec.config)).config.data
    if data.eval_transforms and file.spec.info.kind != "image":
        raise UsageError(
            f"{file.path} was trained with the transform {data.eval_transforms[0].name}, which is your own code; use dlkit.load_model"
        )
    return data if data.name.casefold() in names else NO_DATA
