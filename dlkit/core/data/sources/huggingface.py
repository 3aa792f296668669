"""Hugging Face data sets, from a folder or by name, read by the library `datasets` and decoded here."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.images import Mode, decode_image, load_image, mode_of_file
from dlkit.core.data.samples import Source, SourceRequest, renumber
from dlkit.core.data.sources.imagefolder import SPLIT_FOLDERS
from dlkit.core.data.sources.items import kind_of, to_input
from dlkit.core.data.sources.labels import check_weights, read_labels
from dlkit.errors import DataError, UsageError, first_line
from dlkit.suggestions import did_you_mean

# kinds of files that the library reads without running code of theirs; others, pandas' among them, hold pickles
READERS = frozenset({"parquet", "arrow", "csv", "json", "imagefolder", "cache"})
_IMAGES, _LABELS = ("image", "img"), ("label", "labels")


@dataclass(frozen=True)
class RowSamples:
    """Rows of a data set: pictures, or lists of numbers, in one column, and a target each."""

    rows: Any
    column: str
    mode: Mode
    title: str
    targets: Tensor
    is_random: bool = False
    is_slow: bool = True

    def __len__(self) -> int:
        return len(self.targets)

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Decode one row and return it with its target. Raises DataError, naming the row."""
        return self._decode(self.rows[index][self.column], self.name_of(index)), self.targets[index]

    look = load

    def _decode(self, value: Any, name: str) -> Tensor:
        if value is None:
            raise DataError(f"{name}: the column {self.column!r} is empty")
        if not isinstance(value, Mapping):
            return to_input(np.asarray(value), name)
        content = value.get("bytes")
        return decode_image(content, name, mode=self.mode) if content else load_image(value["path"], mode=self.mode)

    def name_of(self, index: int) -> str:
        """Returns the number of the row."""
        return f"{self.title} row {index}"

    def renumbered(self, table: Tensor) -> "RowSamples":
        """Returns the same rows, class `i` being called `table[i]`."""
        return replace(self, targets=renumber(self.targets, table))


def hf(
    path: str,
    *,
    image: str = "auto",
    label: str = "auto",
    mode: Literal["auto", "rgb", "grey"] = "auto",
    subset: str | None = None,
    revision: str | None = None,
    train_split: str = "auto",
    val_split: str = "auto",
    test_split: str = "auto",
    request: SourceRequest,
) -> Source:
    """A Hugging Face data set: a folder that `save_to_disk` wrote, one of parquet, arrow, csv or json files, or a name on the Hub.

    `image` and `label` name columns; auto takes those called so, or the only ones of their kind. `mode: auto` reads all pictures as
    the first one is. A name is looked up in the cache, and fetched with `download`. Code of a data set never runs. Raises DataError
    for data that are not there or do not fit, UsageError without the library.
    """
    _require_datasets()
    parts = _pick_splits(_open(path, subset, revision, request), path, (train_split, val_split, test_split))
    train = parts["train"]
    column = _pick_column(train, image, "image", _IMAGES, "Image", path)
    target = _pick_column(train, label, "label", _LABELS, "ClassLabel", path)
    weights = _weights(train, request.weights, path)
    parts = {split: _undecoded(part, column, target, f"{path} {split}") for split, part in parts.items()}
    labels = read_labels(
        {split: _targets(part, target, f"{path} {split}") for split, part in parts.items()},
        {split: f"column {target!r} of {path} {split}" for split in parts},
        classes=_class_names(train.features[target]),
        request=request,
    )
    shown: Mode = _mode_of_first(parts["train"], column, path) if mode == "auto" else mode
    samples = {
        split: RowSamples(part, column, shown, f"{path} {split}", labels.targets[split])
        for split, part in parts.items()
    }
    return labels.source_of(samples, kind_of(samples["train"].look(0)[0]), weights=weights)


def _require_datasets() -> None:
    if find_spec("datasets") is None:
        raise UsageError("Hugging Face data sets need datasets, not installed here: pip install 'dlkit[hf]'")


def _open(path: str, subset: str | None, revision: str | None, request: SourceRequest) -> Mapping[str, Any]:
    """Returns the splits of a data set by the names that it has for them."""
    import datasets

    folder = Path(path)
    if not folder.is_dir() and (folder.is_absolute() or path.startswith(".") or folder.exists()):
        raise DataError(f"{path}: {'not a folder' if folder.exists() else 'no such folder'}")
    with _quiet(is_offline=not request.download), _explained(path, request):
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            saved = datasets.load_from_disk(path)
        else:
            builder = datasets.load_dataset_builder(path, subset, revision=revision, cache_dir=request.root)
            reader = type(builder).__module__.rpartition(".")[2]
            if reader not in READERS:
                raise DataError(f"{path}: its files are of the kind {reader}; dlkit reads {', '.join(sorted(READERS))}")
            builder.download_and_prepare()
            saved = builder.as_dataset()
    return dict(saved) if isinstance(saved, dict) else {"train": saved}


@contextmanager
def _quiet(*, is_offline: bool) -> Iterator[None]:
    """Without the library's progress bars and, when `is_offline`, without the network; as before afterwards."""
    import datasets
    from huggingface_hub import constants

    had_bars = not datasets.are_progress_bars_disabled()
    was_offline = (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    datasets.disable_progress_bars()
    if is_offline:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = was_offline
        if had_bars:
            datasets.enable_progress_bars()


@contextmanager
def _explained(path: str, request: SourceRequest) -> Iterator[None]:
    # the library raises errors of its own, of pyarrow, of the Hub and of the system
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        is_missing = isinstance(error, ConnectionError) and not request.download
        way_out = (
            f"; data.download=true fetches it from the Hub, or give a folder: {os.curdir}/{path}" if is_missing else ""
        )
        raise DataError(f"{path} cannot be opened: {first_line(error, 300).rstrip('.')}{way_out}") from error


def _pick_splits(found: Mapping[str, Any], path: str, asked: tuple[str, str, str]) -> dict[str, Any]:
    """Returns the splits that are used, by dlkit's names. Raises ComponentError for one that is asked for and not there."""
    picked = {}
    for (split, words), name in zip(SPLIT_FOLDERS.items(), asked, strict=True):
        if name not in ("auto", "none", *found):
            hint = did_you_mean(name, found)
            raise ComponentError(
                f"{path} has no split {name!r}.{hint} It has: {', '.join(found)}", option=f"{split}_split"
            )
        spellings = words if name == "auto" else (name,)
        if chosen := next((found[word] for word in spellings if word in found and len(found[word])), None):
            picked[split] = chosen
    if "train" not in picked:
        if len(found) != 1:
            raise DataError(f"{path} has no split train; data.train_split names one: {', '.join(found)}")
        picked = {"train": next(iter(found.values()))}
    return picked


def _pick_column(rows: Any, asked: str, option: str, usual: tuple[str, ...], kind: str, path: str) -> str:
    features = dict(rows.features)
    if asked != "auto":
        if asked not in features:
            hint = did_you_mean(asked, features)
            raise ComponentError(f"{path} has no column {asked!r}.{hint} It has: {', '.join(features)}", option=option)
        return asked
    of_kind = [name for name, feature in features.items() if type(feature).__name__ == kind]
    named = [name for name in usual if name in features]
    if not named and len(of_kind) != 1:
        raise DataError(
            f"{path}: which column is the {option} is not plain; data.{option} names one: {', '.join(features)}"
        )
    return named[0] if named else of_kind[0]


def _undecoded(rows: Any, column: str, target: str, title: str) -> Any:
    """Returns rows of these columns in which pictures are bytes. Raises DataError where a split lacks one."""
    import datasets

    if missing := next((name for name in (column, target) if name not in rows.features), None):
        raise DataError(f"{title} has no column {missing!r}; it has: {', '.join(rows.features)}")
    rows = rows.with_format(None).select_columns([column, target])
    is_image = isinstance(rows.features[column], datasets.Image)
    return rows.cast_column(column, datasets.Image(decode=False)) if is_image else rows


def _targets(rows: Any, target: str, title: str) -> np.ndarray[Any, Any]:
    values = rows[target][:]
    if any(value is None for value in values):
        raise DataError(f"{title} row {values.index(None)}: the column {target!r} is empty")
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"{title}: rows of the column {target!r} differ in length") from None


def _weights(rows: Any, asked: str | None, path: str) -> np.ndarray[Any, Any] | None:
    if asked is None:
        return None
    name = _pick_column(rows, asked, "sampling", (), "", path)
    return check_weights(_targets(rows, name, path), f"column {name!r} of {path}", len(rows))


def _class_names(feature: Any) -> list[str] | None:
    return list(feature.names) if type(feature).__name__ == "ClassLabel" else None


def _mode_of_first(rows: Any, column: str, path: str) -> Mode:
    value = rows[0][column]
    if not isinstance(value, Mapping):
        return "rgb"
    return mode_of_file(value.get("bytes") or value["path"], f"{path} row 0")
