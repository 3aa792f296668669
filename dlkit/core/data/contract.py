"""What the training loop, evaluation and the model file see of data: batches, splits, and a description in plain
values.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from dlkit.choices import SplitName
from dlkit.errors import DataError
from dlkit.shapes import size_text
from dlkit.tasks import TASK_NAMES, TaskName

Kind = Literal["image", "features", "sequence"]
Numbers = tuple[float, ...] | None


_DIMENSIONS = {"image": 3, "features": 1}
TEMPERATURES = (0.01, 100.0)  # the least and the largest
LARGEST_SAMPLE = 2**26  # numbers: an image of 3 x 4,700 x 4,700


class Batch(NamedTuple):
    """Samples ready for the model.

    `inputs` are float32, normalized and on the device: images NCHW, features NF, sequences NTF. `targets` are on the
    device: int64 class indices (N,), float32 (N, num_outputs) of 0 and 1 for multilabel and of numbers for regression, or float32
    class probabilities (N, num_outputs) after mixup or cutmix. `indices` are int64 (N,) on the CPU: the position of each sample
    in its split.
    A batch that is not counted fills a turn for which this process has no samples, while others have; it weighs nothing.
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor
    is_counted: bool = True

    def copied(self) -> "Batch":
        """Returns the batch with inputs and targets of its own."""
        return self._replace(inputs=self.inputs.clone(), targets=self.targets.clone())


@dataclass(frozen=True)
class TableColumn:
    """A feature column of a table: a number, or one of these texts, each an input of its own that is 1 where it stands.

    `fill` is what its inputs are where its cell is missing; None refuses such cells.
    """

    name: str
    texts: tuple[str, ...] | None = None
    fill: tuple[float, ...] | None = None

    @property
    def num_inputs(self) -> int:
        """Inputs of the network that the column becomes."""
        return 1 if self.texts is None else len(self.texts)


@dataclass(frozen=True)
class ImageFit:
    """How pictures are brought to a size: scaled to cover `resize_size` (height, width), or with `squash` to exactly that, then cut
    about the centre. Both ways of interpolating are antialiased.
    """

    resize_size: tuple[int, int]
    interpolation: str = "bilinear"
    crop_mode: str = "center"

    def at(self, size: tuple[int, int], old: tuple[int, int]) -> "ImageFit":
        """Returns the same way for another size than the `old` one: the share that is cut off stays."""
        resized = tuple(
            max(new, new * side // before) for new, side, before in zip(size, self.resize_size, old, strict=True)
        )
        return replace(self, resize_size=(resized[0], resized[1]))


@dataclass(frozen=True)
class PublishedInput:
    """What weights were trained on: images of this height and width, fitted and normalized so. `weights` are their words; `fit`, `mean`
    and `std` are as those of `DataInfo`.
    """

    weights: str
    size: tuple[int, int]
    fit: ImageFit | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class DataInfo:
    """What a model must know of its data, in plain values; it goes into the model file.

    `input_size` is one sample's: (C, H, W), (F,) or (T, F). `num_outputs` counts classes, labels or target columns; `classes` are
    the names of classes or labels. `mean` and
    `std` are per channel for images scaled to 0..1, per feature otherwise; None means that nothing is normalized.
    `columns` are the features of a table, `targets` the names of its target columns. With `target_mean` and `target_std`, one
    number per output, the network is trained on standardized targets: its outputs are `(target - mean) / std`. `thresholds` are
    for multilabel: the probability from which on each label counts as found, 0.5 where it is None. `fit` says how
    pictures get to the size; None is what dlkit does by itself (`fit_image`). `temperature` is for classes: their probabilities are
    the softmax of `outputs / temperature`.
    """

    task: TaskName
    kind: Kind
    input_size: tuple[int, ...]
    num_outputs: int
    classes: tuple[str, ...] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    columns: tuple[TableColumn, ...] | None = None
    targets: tuple[str, ...] | None = None
    target_mean: tuple[float, ...] | None = None
    target_std: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    fit: ImageFit | None = None
    temperature: float | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of classes or labels; their numbers where they have none."""
        return self.classes or tuple(map(str, range(self.num_outputs)))

    def to_dict(self) -> dict[str, Any]:
        """Lists, mappings, numbers and texts only."""
        values = {key: _plain(value) for key, value in asdict(self).items()}
        for column in values["columns"] or ():
            if column["fill"] is None:
                del column["fill"]  # as in files of before there was such a thing
        if self.temperature is None:
            del values["temperature"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataInfo":
        """Returns the inverse of `to_dict`. Raises DataError for a missing or unknown key and for a value of the wrong kind."""
        known = {field.name: field.default is MISSING for field in fields(cls)}
        if not {name for name, is_needed in known.items() if is_needed} <= set(values) <= set(known):
            raise DataError(f"data info needs the keys {', '.join(known)}; got {', '.join(map(str, values)) or 'none'}")
        info = cls(
            task=_one_of(values, "task", TASK_NAMES),
            kind=_one_of(values, "kind", ("image", "features", "sequence")),
            input_size=tuple(_numbers(values, "input_size", int)),
            num_outputs=_numbers({"num_outputs": [values["num_outputs"]]}, "num_outputs", int)[0],
            classes=_texts(values, "classes"),
            mean=_optional_numbers(values, "mean"),
            std=_optional_numbers(values, "std"),
            columns=_columns(values.get("columns")),
            targets=_texts(values, "targets"),
            target_mean=_optional_numbers(values, "target_mean"),
            target_std=_optional_numbers(values, "target_std"),
            thresholds=_optional_numbers(values, "thresholds"),
            fit=_image_fit(values.get("fit")),
            temperature=_optional_number(values, "temperature"),
        )
        _check_together(info)
        return info


def _check_together(info: DataInfo) -> None:
    """Raise DataError where the parts of a description contradict each other, or tell of samples of a senseless size."""
    length = len(info.input_size)
    if length != _DIMENSIONS.get(info.kind, length) or math.prod(info.input_size) > LARGEST_SAMPLE:
        raise DataError(f"data info: {size_text(info.input_size):.80} is no size of {info.kind} input")
    num_inputs = info.input_size[0 if info.kind == "image" else -1]
    _check_statistics("", info.mean, info.std, num_inputs)
    _check_statistics("target_", info.target_mean, info.target_std, info.num_outputs)
    if len(info.classes or ()) > info.num_outputs:
        raise DataError(f"data info: {len(info.classes or ())} classes for {info.num_outputs} outputs")
    _check_labels(info)
    _check_temperature(info)
    if info.task == "regression" and info.targets is not None and len(info.targets) != info.num_outputs:
        raise DataError(f"data info: {len(info.targets)} targets for {info.num_outputs} outputs")
    if info.fit is not None and (
        info.kind != "image"
        or any(side > resized for side, resized in zip(info.input_size[1:], info.fit.resize_size, strict=True))
        or math.prod(info.fit.resize_size) > LARGEST_SAMPLE
    ):
        raise DataError("data info: its fit does not belong to images of this size")
    if info.columns is not None and sum(column.num_inputs for column in info.columns) != num_inputs:
        raise DataError(f"data info: its columns do not make {num_inputs} inputs")


def _check_labels(info: DataInfo) -> None:
    if info.task == "multilabel" and info.classes is not None and len(info.classes) != info.num_outputs:
        raise DataError(f"data info: {len(info.classes)} labels for {info.num_outputs} outputs")
    if info.thresholds is None:
        return
    if info.task != "multilabel" or len(info.thresholds) != info.num_outputs:
        raise DataError(f"data info: {len(info.thresholds)} thresholds for {info.num_outputs} outputs of {info.task}")
    if not all(0 <= value <= 1 for value in info.thresholds):
        raise DataError("data info: thresholds must lie between 0 and 1")


def _check_temperature(info: DataInfo) -> None:
    if info.temperature is None:
        return
    least, most = TEMPERATURES
    if info.task != "classification" or not least <= info.temperature <= most:
        raise DataError(f"data info: temperature must lie between {least:g} and {most:g}, and is for classes alone")


def _check_statistics(name: str, mean: Numbers, std: Numbers, count: int) -> None:
    if (mean is None) != (std is None):
        raise DataError(f"data info: {name}mean and {name}std come together or not at all")
    if mean is None or std is None:
        return
    if not len(mean) == len(std) == count or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise DataError(f"data info: {name}mean and {name}std must be {count} finite numbers each, {name}std above 0")


def _one_of(values: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
    if values[key] not in allowed:
        raise DataError(f"data info: {key} must be one of {', '.join(allowed)}, got {values[key]!r:.200}")
    return values[key]


def _numbers(values: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    found = values[key]
    if not isinstance(found, list | tuple) or not found or any(type(value) is not kind for value in found):
        raise DataError(f"data info: {key} must hold {kind.__name__} numbers, got {found!r:.200}")
    if kind is int and min(found) < 1:
        raise DataError(f"data info: {key} must be at least 1, got {found!r:.200}")
    return list(found)


def _optional_numbers(values: Mapping[str, Any], key: str) -> tuple[float, ...] | None:
    return None if values.get(key) is None else tuple(_numbers(values, key, float))


def _optional_number(values: Mapping[str, Any], key: str) -> float | None:
    return None if values.get(key) is None else float(_numbers({key: [values[key]]}, key, float)[0])


def _columns(found: Any) -> tuple[TableColumn, ...] | None:
    if found is None:
        return None
    if not isinstance(found, list | tuple) or not all(isinstance(entry, Mapping) for entry in found):
        raise DataError(f"data info: columns must hold mappings, got {found!r:.200}")
    if wrong := [
        entry for entry in found if set(entry) - {"fill"} != {"name", "texts"} or type(entry["name"]) is not str
    ]:
        raise DataError(f"data info: columns need a name and texts, got {wrong[0]!r:.200}")
    return tuple(map(_column, found))


def _column(entry: Mapping[str, Any]) -> TableColumn:
    column = TableColumn(entry["name"], _texts(entry, "texts"), _optional_numbers(entry, "fill"))
    fill = column.fill
    if fill is not None and (len(fill) != column.num_inputs or not all(map(math.isfinite, fill))):
        raise DataError(f"data info: column {column.name!r:.80} needs {column.num_inputs} finite numbers to fill it")
    return column


def _image_fit(found: Any) -> ImageFit | None:
    if found is None:
        return None
    if not isinstance(found, Mapping) or set(found) != {"resize_size", "interpolation", "crop_mode"}:
        raise DataError(f"data info: fit needs resize_size, interpolation and crop_mode, got {found!r:.200}")
    height, width, *rest = [*_numbers(found, "resize_size", int), 0, 0][:3]
    if any(rest) or not width:
        raise DataError(f"data info: resize_size must be a height and a width, got {found['resize_size']!r:.200}")
    interpolation = _one_of(found, "interpolation", ("bilinear", "bicubic"))
    return ImageFit((height, width), interpolation, _one_of(found, "crop_mode", ("center", "squash")))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _texts(values: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    found = values.get(key)
    if found is None:
        return None
    if not isinstance(found, list | tuple) or not all(isinstance(value, str) for value in found):
        raise DataError(f"data info: {key} must hold texts, got {found!r:.200}")
    return tuple(found)


class Split(Protocol):
    """One split, cut into micro-batches. Nothing in it depends on the number of workers or on global random state."""

    @property
    def name(self) -> SplitName:
        """Which split this is."""

    @property
    def num_samples(self) -> int:
        """Samples in the split."""

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch."""

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the micro-batches of one epoch from number `start` on; what is skipped is not decoded."""

    def without_workers(self) -> "Split":
        """Returns the same split, read by this process alone."""

    def first_batch(self) -> Batch:
        """Returns the first micro-batch of epoch 0, for a look at what is trained on; training does not read it again."""

    def name_of(self, position: int) -> str:
        """Returns what to call the sample at a position in the split: its file, where it is one."""

    def sample_targets(self) -> Tensor:
        """Returns targets of all samples by position: int64 (N,) for classification, else floats (N, num_outputs), not standardized."""

    def sample_numbers(self) -> Tensor:
        """Returns the number of each sample in the data set by position, int64 (N,)."""


@dataclass(frozen=True)
class DataSplits:
    """All that a run reads. `notes` are sentences about choices that were made, already reported once; `skipped` says of each
    sample that was left out what is wrong with it, `name_of` what to call the training sample at a position.
    """

    train: Split
    val: Split | None
    test: Split | None
    info: DataInfo
    notes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    name_of: Callable[[int], str] = "sample {}".format
