"""Targets that come as arrays: classes by number or name, or numbers to regress on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.contract import Kind
from dlkit.core.data.samples import Samples, Source, SourceRequest
from dlkit.errors import DataError
from dlkit.suggestions import did_you_mean
from dlkit.tasks import TaskName

Array = np.ndarray[Any, Any]
SUSPICIOUS_LABEL = 1000  # a few missing labels are usual; one label this high among a few is a mistake
FEW_VALUES = 20
_TEXTS, _WHOLE = "US", "biu"


@dataclass(frozen=True)
class Labels:
    """The targets of each split, int64 (N,), uint8 or float32 (N, num_outputs), and what they are of."""

    task: TaskName
    targets: Mapping[str, Tensor]
    num_outputs: int
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def source_of(
        self,
        samples: Mapping[str, Samples],
        kind: Kind,
        *,
        notes: tuple[str, ...] = (),
        weights: Array | None = None,
    ) -> Source:
        """Returns the source of samples that have these targets, by split."""
        return Source(
            task=self.task,
            kind=kind,
            train=samples["train"],
            val=samples.get("val"),
            test=samples.get("test"),
            num_outputs=self.num_outputs,
            classes=self.classes,
            notes=(*notes, *self.notes),
            weights=None if weights is None else torch.from_numpy(weights.astype(np.float64)),
        )


def read_labels(
    arrays: Mapping[str, Array],
    titles: Mapping[str, str],
    *,
    classes: Sequence[str] | None,
    request: SourceRequest,
) -> Labels:
    """Returns the targets of all splits by name; those of `train` say what they are, `titles` what messages call each.

    Whole numbers (N,) are classes, called `classes` if these are given; texts are classes in sorted order, unless `classes` gives
    another; rows of 0 and 1 (N, L) are labels, floats regression. The task that is asked for decides otherwise where it can.
    Raises DataError for targets that fit nothing, or not those of training.
    """
    flat = {name: _without_column(array, titles[name]) for name, array in arrays.items()}
    _check_alike(flat, titles)
    train, task = flat["train"], request.task
    if train.dtype.kind in _TEXTS:
        return _of_texts(flat, titles, classes)
    if task == "regression" or (train.dtype.kind == "f" and task is None):
        return _of_numbers(flat, task)
    if train.dtype.kind == "f":
        flat = {name: _whole(array, titles[name]) for name, array in flat.items()}
    if train.ndim == 2 and task != "classification":
        return _of_multi_hot(flat, titles, classes, is_asked=task is not None)
    if train.ndim == 2:
        flat = {name: _of_one_hot(array, titles[name]) for name, array in flat.items()}
    targets = {name: torch.from_numpy(array.astype(np.int64)) for name, array in flat.items()}
    count = len(classes) if classes else count_classes(torch.cat(list(targets.values())), request.ignored_label)
    return Labels("classification", targets, count, tuple(classes) if classes else None)


def check_weights(array: Array, title: str, count: int) -> Array:
    """Returns the weights of `count` samples. Raises DataError for anything else."""
    if array.dtype.kind not in _WHOLE + "f" or array.shape != (count,):
        raise DataError(
            f"{title}: weights must be {count} numbers, one for each sample; got {array.dtype} {array.shape}"
        )
    return array


def _without_column(array: Array, title: str) -> Array:
    """Returns targets as (N,) or (N, K); one column is none. Raises DataError for other shapes and what is no target."""
    if array.dtype.kind not in _TEXTS + _WHOLE + "f":
        raise DataError(f"{title}: targets must be whole numbers, floats or texts, got {array.dtype}")
    if array.ndim not in (1, 2) or not array.size:
        raise DataError(f"{title}: targets must be (N,) or (N, K), one row for each sample, got shape {array.shape}")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def check_names(classes: Any) -> None:
    """Raise ComponentError for what are no names of classes."""
    if not isinstance(classes, list) or len(set(map(str, classes))) != len(classes) or len(classes) < 2:
        raise ComponentError("expected a list of at least two different names", option="classes")
    if wrong := [name for name in classes if not isinstance(name, str)]:
        raise ComponentError(f"names are texts, got {wrong[0]!r}; put quotes around it", option="classes")


def _check_alike(flat: Mapping[str, Array], titles: Mapping[str, str]) -> None:
    def form(array: Array) -> tuple[str, tuple[int, ...]]:
        kind = array.dtype.kind
        return "texts" if kind in _TEXTS else "whole numbers" if kind in _WHOLE else "floats", array.shape[1:]

    for name, array in flat.items():
        if form(array) != form(flat["train"]):
            (what, shape), (wanted, other) = form(array), form(flat["train"])
            raise DataError(
                f"{titles[name]} holds {what} of shape {('N', *shape)}, {titles['train']} {wanted} of {('N', *other)}"
            )


def _of_texts(flat: Mapping[str, Array], titles: Mapping[str, str], classes: Sequence[str] | None) -> Labels:
    texts = {name: _as_texts(array, titles[name]) for name, array in flat.items()}
    names = list(classes) if classes else sorted(set(texts["train"]))
    if len(names) < 2:
        raise DataError(f"{titles['train']} holds one class only ({names[0]}); at least two are needed")
    numbers = {name: number for number, name in enumerate(names)}
    for split, found in texts.items():
        if unknown := next((text for text in found if text not in numbers), None):
            where = "data.classes" if classes else "training"
            raise DataError(f"{titles[split]}: class {unknown!r} is not in {where}.{did_you_mean(unknown, names)}")
    targets = {split: torch.tensor([numbers[text] for text in found]) for split, found in texts.items()}
    return Labels("classification", targets, len(names), tuple(names))


def _as_texts(array: Array, title: str) -> list[str]:
    if array.ndim != 1:
        raise DataError(f"{title}: texts are classes, one for each sample; got shape {array.shape}")
    try:
        found = [text.decode() if isinstance(text, bytes) else str(text) for text in array.tolist()]
    except UnicodeDecodeError:
        raise DataError(f"{title}: texts in bytes must be UTF-8") from None
    if "" in found:
        raise DataError(f"{title}: the class of sample {found.index('')} is empty")
    return found


def _of_numbers(flat: Mapping[str, Array], task: TaskName | None) -> Labels:
    tensors = {name: torch.from_numpy(array.astype(np.float32)) for name, array in flat.items()}
    targets = {name: tensor.reshape(len(tensor), -1) for name, tensor in tensors.items()}
    train = targets["train"]
    is_like_classes = task is None and bool((train == train.round()).all()) and len(torch.unique(train)) <= FEW_VALUES
    note = (
        "the targets are whole numbers written as floats, hence regression; task: classification takes them as classes"
    )
    return Labels("regression", targets, train.shape[1], notes=(note,) if is_like_classes else ())


def _whole(array: Array, title: str) -> Array:
    if not (array == np.round(array)).all():
        raise DataError(f"{title}: classes are whole numbers, these are fractions; for numbers set task: regression")
    whole: Array = array.astype(np.int64)
    return whole


def _of_multi_hot(
    flat: Mapping[str, Array], titles: Mapping[str, str], classes: Sequence[str] | None, *, is_asked: bool
) -> Labels:
    for name, array in flat.items():
        if len(wrong := np.flatnonzero(~((array == 0) | (array == 1)).all(1))):
            row = int(wrong[0])
            raise DataError(
                f"{titles[name]}: row {row} is {array[row].tolist()!s:.80}; rows of whole numbers are 0 or 1 for each label. For numbers "
                "set task: regression"
            )
    count = flat["train"].shape[1]
    if classes and len(classes) != count:
        raise DataError(f"{titles['train']}: {count} columns for the {len(classes)} names in data.classes")
    targets = {name: torch.from_numpy(array.astype(np.uint8)) for name, array in flat.items()}
    notes = () if is_asked else (labels_note(targets["train"]),)
    return Labels("multilabel", targets, count, tuple(classes) if classes else None, notes)


def labels_note(targets: Tensor) -> str:
    """Returns a sentence on rows of 0 and 1 (N, L) that are taken as labels."""
    is_single = bool((targets.sum(1) == 1).all())
    hint = ". Each sample has exactly one: for classes, let the target be the class's number" if is_single else ""
    return f"targets of {targets.shape[1]} times 0 or 1 are taken as labels (task: multilabel){hint}"


def _of_one_hot(array: Array, title: str) -> Array:
    """Returns the class of each row that is 1 in one place and 0 in all others. Raises DataError for other rows."""
    is_one_hot = ((array == 0) | (array == 1)).all(1) & (array.sum(1) == 1)
    if not is_one_hot.all():
        row = int(np.flatnonzero(~is_one_hot)[0])
        raise DataError(
            f"{title}: row {row} is {array[row].tolist()!s:.80}; classes are one number a sample, or rows with a single 1"
        )
    places: Array = array.argmax(1)
    return places


def count_classes(targets: Tensor, ignored: int | None) -> int:
    """Returns one more than the highest label that is not ignored. Raises DataError for a label far beyond the others."""
    if ignored is not None and bool((targets != ignored).any()):
        targets = targets[targets != ignored]
    highest = int(torch.clamp(targets.max(), min=0))
    num_seen = len(torch.unique(targets))
    if highest >= SUSPICIOUS_LABEL and highest >= 10 * num_seen:
        raise DataError(
            f"label {highest} asks for {highest + 1:,} classes, but only {num_seen:,} labels occur; "
            "number them from 0, or give the dataset an attribute `classes`"
        )
    return highest + 1
