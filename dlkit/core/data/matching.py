"""Whether data fit a network that exists, and the size that images are brought to for it."""

import re
from dataclasses import replace

from torch import Tensor

from dlkit.config import Fitting, LoadedConfig
from dlkit.core.data.contract import DataInfo, ImageFit, PublishedInput
from dlkit.core.data.samples import Source
from dlkit.core.data.transforms import Fit
from dlkit.errors import DataError
from dlkit.shapes import size_text


def match_source(source: Source, info: DataInfo) -> Source:
    """Returns the source with its classes or labels numbered as the model's. Raises DataError when these or its kind are others."""
    if source.kind != info.kind:
        raise DataError(f"the model takes {info.kind} input, these data are {source.kind}")
    _check_labelled(source, info)
    is_same = source.classes is None or info.classes is None or source.classes == info.classes
    is_same = is_same or (_is_imagenet(source.classes) and _is_imagenet(info.classes))
    if info.task == "regression" or is_same:
        return source
    known, given = info.classes or (), source.classes or ()
    what = "label" if info.task == "multilabel" else "class"
    if unknown := [name for name in given if name not in known]:
        raise DataError(f"{what} {unknown[0]!r} is unknown to the model; it knows {', '.join(known)}")
    if info.task in ("classification", "segmentation"):
        return source.renumbered([known.index(name) for name in given], known)
    found = source.renumbered([given.index(name) if name in given else -1 for name in known], known)
    return replace(found, notes=(*found.notes, *_absent_labels(known, given)))


def _check_labelled(source: Source, info: DataInfo) -> None:
    """Raise DataError where a model of several labels gets data that do not have as many, or one of maps data without masks."""
    if (info.task == "segmentation") != (source.task == "segmentation"):
        got = "have masks" if source.task == "segmentation" else "have no masks"
        raise DataError(f"the model is one of {info.task}, these data {got}")
    if info.task == "segmentation" and source.num_outputs > info.num_outputs:
        raise DataError(f"the model knows {info.num_outputs} classes, these data have {source.num_outputs}")
    if info.task != "multilabel":
        return
    if source.task == "classification":
        raise DataError("the model tells for each label whether a sample has it, these data have one class per sample")
    if source.classes is None and source.num_outputs != info.num_outputs:
        raise DataError(f"the model knows {info.num_outputs} labels, these data have {source.num_outputs}")


def _absent_labels(known: tuple[str, ...], given: tuple[str, ...]) -> list[str]:
    """Returns a sentence on labels of the model that the data lack."""
    absent = [name for name in known if name not in given]
    return (
        [f"these data lack the model's label {', '.join(absent)}, which no sample is taken to have"] if absent else []
    )


def _is_imagenet(classes: tuple[str, ...] | None) -> bool:
    """Whether these are the 1000 classes of ImageNet, by their numbers in WordNet or by their names, in the order that all use."""
    if classes is None or len(classes) != 1000:
        return False
    is_numbered = all(re.fullmatch(r"n\d{8}", name) for name in classes)
    return is_numbered or (classes[0].startswith("tench") and classes[-1].startswith("toilet tissue"))


def pick_fit(
    loaded: LoadedConfig, source: Source, *, known: DataInfo | None = None, published: PublishedInput | None = None
) -> Fit | None:
    """Returns what brings images to `data.image_size`, or None where they stay as they are.

    Where `auto` leaves it open, images are fitted as those of `published`, the model's weights, were, or as the model that is known asks
    for: folders of pictures always, others where the model says how. Raises ConfigError where the data are no images.
    """
    size, how = None, None
    if published is not None:
        size, how = published.size, published.fit
    elif known is not None and known.kind == "image":
        size, how = (known.input_size[1], known.input_size[2]), known.fit
    wanted = _pick_size(loaded, source, size if published or how or source.image_size else None)
    asked = loaded.config.data.fitting
    if isinstance(asked, Fitting):
        if wanted is None:
            raise loaded.error(("data", "fitting"), "fits pictures to a size: set data.image_size", at="key")
        return Fit(wanted, _given_fit(loaded, asked, wanted))
    if wanted is None:
        return None
    return Fit(wanted, how.at(wanted, size) if how and size else None)


def fit_of(loaded: LoadedConfig, info: DataInfo) -> Fit:
    """Returns what brings images to the size that a model takes, as the config that it was trained with says, else as the model says."""
    size, asked = (info.input_size[1], info.input_size[2]), loaded.config.data.fitting
    return Fit(size, _given_fit(loaded, asked, size) if isinstance(asked, Fitting) else info.fit)


def _pick_size(loaded: LoadedConfig, source: Source, bound: tuple[int, int] | None) -> tuple[int, int] | None:
    asked = loaded.config.data.final_size
    if asked == "auto":
        return bound if bound and source.kind == "image" else source.image_size
    if source.kind != "image":
        raise loaded.error(("data", "image_size"), f"these data are {source.kind}, not images", at="key")
    return _both_sides(asked)


def _both_sides(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _given_fit(loaded: LoadedConfig, asked: Fitting, size: tuple[int, int]) -> ImageFit:
    resized = _both_sides(asked.resize_size)
    if any(side > covered for side, covered in zip(size, resized, strict=True)):
        raise loaded.error(
            ("data", "fitting", "resize_size"), f"{size_text(resized)} is smaller than image_size, {size_text(size)}"
        )
    return ImageFit(resized, asked.interpolation, asked.crop_mode)


def check_fits(shown: Tensor, info: DataInfo) -> None:
    """Raise DataError when samples have other channels or features than the model takes."""
    position, what = (0, "channels") if info.kind == "image" else (-1, "features")
    if shown.shape[position] != info.input_size[position]:
        raise DataError(
            f"the model takes {info.input_size[position]} {what}, these samples have {shown.shape[position]}"
        )
