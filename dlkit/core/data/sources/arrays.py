"""Arrays of one's own: an npz file, or a folder of npy files, with inputs and targets of each split."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.contract import DataInfo, Kind
from dlkit.core.data.samples import Source, SourceRequest, TensorSamples
from dlkit.core.data.sources.array_file import find_arrays, read_arrays
from dlkit.core.data.sources.imagefolder import SPLIT_FOLDERS
from dlkit.core.data.sources.labels import check_names, check_weights, read_labels
from dlkit.errors import DataError
from dlkit.shapes import size_text
from dlkit.suggestions import did_you_mean

Layout = Literal["auto", "F", "TF", "HW", "HWC", "CHW"]
Array = np.ndarray[Any, Any]
ENDINGS = (".npz", ".npy")
USUAL_NAMES = (("x", "y"), ("images", "labels"))
CHANNELS = (1, 3, 4)
_KINDS: dict[str, Kind] = {"F": "features", "TF": "sequence", "HW": "image", "HWC": "image", "CHW": "image"}
_Pair = tuple[str, str]


def npz(
    path: str,
    *,
    x: str | None = None,
    y: str | None = None,
    layout: Layout = "auto",
    classes: list[str] | None = None,
    request: SourceRequest,
) -> Source:
    """Arrays `x` and `y` of an npz file or of a folder of npy files, or `x_train`, `y_train`, `x_test` ...; nothing is unpickled.

    `x` and `y` name other arrays than `x`, `y` or `images`, `labels`; `layout` says what the axes after the first are, where the
    rule of `pick_layout` does not hold. Targets are as `read_labels` takes them. Raises DataError for arrays that are missing,
    broken or do not fit together.
    """
    _check_options(layout, classes)
    stored = find_arrays(Path(path))
    pairs = _pick_pairs(stored, path, x, y)
    weights = _pick_weights(stored, path, request.weights)
    arrays = read_arrays(stored, dict.fromkeys([*(name for pair in pairs.values() for name in pair), *weights]))
    for pair in pairs.values():
        _check_lengths(arrays, pair, path)
    kind, inputs = _inputs_of(
        {split: (f"{name} in {path}", arrays[name]) for split, (name, _) in pairs.items()}, layout
    )
    labels = read_labels(
        {split: arrays[name] for split, (_, name) in pairs.items()},
        {split: f"{name} in {path}" for split, (_, name) in pairs.items()},
        classes=classes,
        request=request,
    )
    return labels.source_of(
        {split: TensorSamples(inputs[split], labels.targets[split]) for split in pairs},
        kind,
        notes=_notes_on_scale(inputs["train"], kind),
        weights=next(
            (check_weights(arrays[name], f"{name} in {path}", len(inputs["train"])) for name in weights), None
        ),
    )


def is_array_file(path: Path) -> bool:
    """Whether a name is that of a file of arrays."""
    return path.suffix.lower() in ENDINGS


def read_array_rows(path: Path, info: DataInfo, options: Mapping[str, Any]) -> tuple[Tensor, tuple[str, ...]]:
    """Returns the inputs to predict that a file of arrays holds, raw as `to_inputs` makes them, and notes.

    `options` are those of the `npz` that the model was trained with. Taken is the array that it names `x`, or `x` or `images`, or the
    only one; others, such as targets, may be there. Raises DataError where none is, and for one that does not fit the model.
    """
    stored = find_arrays(path)
    usual = [options.get("x") or name for name, _ in USUAL_NAMES]
    name = next((name for name in usual if name in stored), next(iter(stored)) if len(stored) == 1 else None)
    if name is None:
        raise DataError(f"{path} has no {usual[0]} to predict: it holds {_listed(stored)}")
    title, array = f"{name} in {path}", read_arrays(stored, [name])[name]
    layout = options.get("layout", "auto")
    layout = _layout_for(array, info.kind, title) if layout == "auto" else layout
    inputs = to_inputs(array, layout, title)
    _check_rows(inputs, info, title)
    return inputs, _notes_on_scale(inputs, info.kind)


def _layout_for(array: Array, kind: Kind, title: str) -> Layout:
    """Returns what the axes are of inputs of a known kind, whose number is checked by `to_inputs`."""
    if kind == "image":
        return "HW" if array.ndim == 3 else pick_layout(array, title) if array.ndim == 4 else "CHW"
    return "F" if kind == "features" else "TF"


def _check_rows(inputs: Tensor, info: DataInfo, title: str) -> None:
    size = tuple(inputs.shape[1:])
    fits = size[0] == info.input_size[0] and all(size) if info.kind == "image" else size == info.input_size
    if not fits or not len(inputs):
        raise DataError(
            f"{title} holds {len(inputs):,} samples of {size_text(size)}, the model takes {info.kind} {size_text(info.input_size)}"
        )
    if bad := (~inputs.flatten(1).isfinite().all(1)).nonzero()[:, 0].tolist():
        raise DataError(
            f"{title}: {len(bad):,} rows hold numbers that are not finite (nan or inf), the first is row {bad[0]}"
        )


def _inputs_of(titled: Mapping[str, tuple[str, Array]], layout: Layout) -> tuple[Kind, dict[str, Tensor]]:
    """Returns the inputs of all splits, and their kind, which those of training decide."""
    title, train = titled["train"]
    chosen = pick_layout(train, title) if layout == "auto" else layout
    inputs = {split: to_inputs(array, chosen, name) for split, (name, array) in titled.items()}
    wanted = inputs["train"]
    for split, found in inputs.items():
        if (found.shape[1:], found.is_floating_point()) != (wanted.shape[1:], wanted.is_floating_point()):
            raise DataError(f"{titled[split][0]}: samples are {_words(found)}, those of {title} are {_words(wanted)}")
    if not math.prod(wanted.shape[1:]):
        raise DataError(f"{title}: samples of shape {tuple(wanted.shape[1:])} hold no numbers")
    return _KINDS[chosen], inputs


def _check_options(layout: str, classes: list[str] | None) -> None:
    if layout not in get_args(Layout):
        raise ComponentError(f"expected one of {', '.join(get_args(Layout))}, got {layout!r}", option="layout")
    if classes is not None:
        check_names(classes)


def _pick_pairs(names: Collection[str], path: str, x: str | None, y: str | None) -> dict[str, _Pair]:
    """Returns the names of inputs and targets of each split that is there. Raises DataError where one of them is missing."""
    for usual_x, usual_y in USUAL_NAMES:
        inputs, targets = find_splits(names, x or usual_x), find_splits(names, y or usual_y)
        if inputs:
            break
    way_out = f"it holds {_listed(names)}; data.x and data.y name inputs and targets"
    if "train" not in inputs:
        hint = did_you_mean(x, names) if x else ""
        raise DataError(f"{path} has no {x or 'x'} or {x or 'x'}_train to learn from: {way_out}.{hint}")
    if lonely := inputs.keys() ^ targets.keys():
        split = min(lonely)
        has, lacks = ("inputs", "targets") if split in inputs else ("targets", "inputs")
        raise DataError(f"{path} has {split} {has}, but no {lacks} for them: {way_out}")
    return {split: (inputs[split], targets[split]) for split in inputs}


def _pick_weights(names: Collection[str], path: str, asked: str | None) -> list[str]:
    if asked is None:
        return []
    if "train" not in (found := find_splits(names, asked)):
        hint = did_you_mean(asked, names)
        raise ComponentError(
            f"{path} has no array {asked!r} of weights: it holds {_listed(names)}.{hint}", option="sampling"
        )
    return [found["train"]]


def find_splits(names: Collection[str], base: str) -> dict[str, str]:
    """Returns the arrays called `base`, which is train, or `base_train`, `train_base`, `base_test` ..., by split; case is ignored."""
    by_word = {name.casefold(): name for name in names}
    found = {}
    for split, words in SPLIT_FOLDERS.items():
        spellings = [form for word in words for form in (f"{base}_{word}", f"{word}_{base}")]
        spellings += [base] if split == "train" else []
        if name := next((by_word[form.casefold()] for form in spellings if form.casefold() in by_word), None):
            found[split] = name
    return found


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:10]) + (" ..." if len(names) > 10 else "")


def _check_lengths(arrays: Mapping[str, Array], pair: _Pair, path: str) -> None:
    (name, inputs), (other, targets) = ((name, arrays[name]) for name in pair)
    if not inputs.ndim or not targets.ndim or not len(inputs) or len(inputs) != len(targets):
        raise DataError(
            f"{path}: {name} has shape {inputs.shape}, {other} {targets.shape}; a row for each sample is needed"
        )


def pick_layout(array: Array, title: str) -> Layout:
    """Returns what the axes after the first are: (N, F) features; (N, H, W) grey images of bytes, (N, T, F) sequences of other
    numbers; (N, H, W, C) or (N, C, H, W) images, the channels being the axis of 1, 3 or 4.

    Raises DataError where that does not decide.
    """
    if array.ndim == 2:
        return "F"
    if array.ndim == 3:
        return "HW" if array.dtype == np.uint8 else "TF"
    if array.ndim == 4:
        is_first, is_last = (array.shape[axis] in CHANNELS for axis in (1, 3))
        if is_first != is_last:
            return "CHW" if is_first else "HWC"
    raise DataError(
        f"{title} has shape {array.shape}: which axes are what is not plain; data.layout says it: F, TF, HW, HWC or CHW"
    )


def to_inputs(array: Array, layout: Layout, title: str) -> Tensor:
    """Returns raw inputs of samples: images (N, C, H, W), uint8, or float32 where they are no whole numbers; sequences (N, T, F) and
    features (N, F) in float32 or float64. Raises DataError for what is none.
    """
    if array.ndim != len(layout) + 1:
        raise DataError(f"{title} has shape {array.shape}, layout {layout} needs {len(layout) + 1} axes")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{title}: inputs must be numbers, got {array.dtype}")
    if _KINDS[layout] != "image":
        return torch.from_numpy(array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64))
    if array.dtype.kind in "iu" and array.dtype != np.uint8 and (array.min() < 0 or array.max() > 255):
        raise DataError(
            f"{title}: images of whole numbers are 0..255, these are {array.min()}..{array.max()}; save them as floats of 0..1"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(array, np.uint8 if array.dtype.kind in "iu" else np.float32))
    pixels = pixels[:, None] if layout == "HW" else pixels
    return pixels.permute(0, 3, 1, 2).contiguous() if layout == "HWC" else pixels


def _words(inputs: Tensor) -> str:
    return f"{str(inputs.dtype).removeprefix('torch.')} of shape {tuple(inputs.shape[1:])}"


def _notes_on_scale(inputs: Tensor, kind: Kind) -> tuple[str, ...]:
    if kind != "image" or not inputs.is_floating_point() or not inputs.max() > 1:
        return ()
    return (
        f"the images are floats of up to {inputs.max():.4g} and taken as they are; image files and whole numbers are scaled to 0..1",
    )
