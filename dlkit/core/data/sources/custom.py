"""Datasets of the user's own, by import path: any class or function that returns an object with `__len__` and
`__getitem__`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dlkit.core.components import accepted
from dlkit.core.data.mask_files import code_of_numbers
from dlkit.core.data.samples import Source, SourceRequest
from dlkit.core.data.sources.items import ItemSamples, MaskedItems, kind_of
from dlkit.core.data.sources.labels import count_classes, labels_note
from dlkit.core.data.sources.torchvision import class_names
from dlkit.errors import DataError, DlkitError
from dlkit.tasks import TaskName

_MISSING_SPLIT = (ValueError, KeyError, FileNotFoundError, NotImplementedError)


def open_custom(builder: Callable[..., Any], options: Mapping[str, Any], request: SourceRequest) -> Source:
    """Returns the source of a user's dataset.

    A builder that takes `train` is called with True and False, one that takes `split` with train, val and test (val and
    test may raise ValueError, KeyError or FileNotFoundError where they do not exist), any other once. `root`,
    `download` and `seed` are passed if taken; its own default of `root` stays unless the config names one. Raises DataError
    for datasets and samples of the wrong form.
    """
    parameters = inspect.signature(builder).parameters
    notes: list[str] = []
    has_own_root = (
        request.root is None and "root" in parameters and parameters["root"].default is not parameters["root"].empty
    )
    ours = {"root": request.root or "data", "download": request.download, "seed": request.seed}
    fixed = {**options, **accepted(builder, {name: ours[name] for name in ours if name != "root" or not has_own_root})}
    val = test = None
    if "train" in parameters:
        train, test = (_build(builder, {**fixed, "train": is_train}) for is_train in (True, False))
    elif "split" in parameters:
        train = _build(builder, {**fixed, "split": "train"})
        val, test = (_build_if_there(builder, {**fixed, "split": name}, notes) for name in ("val", "test"))
    else:
        train = _build(builder, fixed)
    parts = [
        None
        if part is None
        else ItemSamples(part, builder.__name__, timeout_s=request.timeout_s, skips_bad=request.skips_bad)
        for part in (train, val, test)
    ]
    return _describe(parts, notes, class_names(train), request)


def _build(builder: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        dataset = builder(**arguments)
    except DlkitError:
        raise
    except Exception as error:
        raise DataError(f"building {builder.__name__} raised {type(error).__name__}: {error}") from error
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DataError(
            f"{builder.__name__} gives a {type(dataset).__name__}; an object with __len__ and __getitem__ is needed"
        )
    if not len(dataset):
        raise DataError(f"{builder.__name__}({_listed(arguments)}) is empty")
    return dataset


def _build_if_there(builder: Callable[..., Any], arguments: Mapping[str, Any], notes: list[str]) -> Any:
    try:
        return _build(builder, arguments)
    except DataError as error:
        if not isinstance(error.__cause__, _MISSING_SPLIT):
            raise
        cause = f"{type(error.__cause__).__name__}: {error.__cause__}"
        notes.append(f"{builder.__name__} has no split {arguments['split']!r} ({cause})")
        return None


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def _describe(
    parts: list[ItemSamples | None], notes: list[str], classes: tuple[str, ...] | None, request: SourceRequest
) -> Source:
    samples = parts[0]
    assert samples is not None
    value, target = samples.first()
    if target.ndim == 2:
        return _describe_masks(parts, notes, classes, request)
    targets = samples.targets
    task = task_of(targets, request.task)
    count = len(classes) if classes else None
    num_outputs = (
        count or count_classes(targets, request.ignored_label) if task == "classification" else targets.shape[1]
    )
    if task == "multilabel" and classes is not None and len(classes) != num_outputs:
        raise DataError(
            f"{samples.title}: its attribute `classes` names {len(classes)} labels, its targets have {num_outputs}"
        )
    return Source(
        task=task,
        kind=kind_of(value),
        train=samples,
        val=parts[1],
        test=parts[2],
        num_outputs=num_outputs,
        classes=None if task == "regression" else classes,
        notes=(*notes, *([labels_note(targets)] if task == "multilabel" and request.task is None else [])),
    )


def _describe_masks(
    parts: list[ItemSamples | None], notes: list[str], classes: tuple[str, ...] | None, request: SourceRequest
) -> Source:
    samples = parts[0]
    assert samples is not None
    count = len(classes) if classes else _count_in_masks(samples, request.ignored_label)
    code = code_of_numbers(count, request.ignored_label)
    train, val, test = (None if part is None else MaskedItems(part, code) for part in parts)
    assert train is not None
    return Source("segmentation", "image", train, val, test, count, classes, notes=tuple(notes))


def _count_in_masks(samples: ItemSamples, ignored: int | None) -> int:
    """Returns one more than the highest class in all masks."""
    looks = (samples.try_look(index) for index in range(len(samples)))
    numbers = (torch.unique(look[1]).tolist() for look in looks if look)
    return 1 + max((int(number) for found in numbers for number in found if number != ignored), default=0)


def task_of(targets: Tensor, asked: TaskName | None) -> TaskName:
    """Returns what targets are for: whole numbers (N,) are classes, those of 0 and 1 (N, L) labels, and floats (N, num_outputs)
    what is asked for, numbers unless labels are.
    """
    if targets.ndim == 1:
        return "classification"
    return "regression" if targets.is_floating_point() and asked != "multilabel" else "multilabel"
