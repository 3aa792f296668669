"""Whether data fit a network that exists, and the size that images are brought to for it."""

import re

from torch import Tensor

from dlkit.config import LoadedConfig
from dlkit.core.data.contract import DataInfo
from dlkit.core.data.samples import Source
from dlkit.errors import DataError


def match_source(source: Source, info: DataInfo) -> Source:
    """Returns the source with its labels numbered as the model's. Raises DataError when its classes or its kind are others."""
    if source.kind != info.kind:
        raise DataError(f"the model takes {info.kind} input, these data are {source.kind}")
    is_same = source.classes is None or info.classes is None or source.classes == info.classes
    is_same = is_same or (_is_imagenet(source.classes) and _is_imagenet(info.classes))
    if info.task == "regression" or is_same:
        return source
    known = info.classes or ()
    unknown = [name for name in source.classes or () if name not in known]
    if unknown:
        raise DataError(f"class {unknown[0]!r} is unknown to the model; it knows {', '.join(known)}")
    return source.renumbered([known.index(name) for name in source.classes or ()], known)


def _is_imagenet(classes: tuple[str, ...] | None) -> bool:
    """Whether these are the 1000 classes of ImageNet, by their numbers in WordNet or by their names, in the order that all use."""
    if classes is None or len(classes) != 1000:
        return False
    is_numbered = all(re.fullmatch(r"n\d{8}", name) for name in classes)
    return is_numbered or (classes[0].startswith("tench") and classes[-1].startswith("toilet tissue"))


def pick_image_size(loaded: LoadedConfig, source: Source, known: DataInfo | None = None) -> tuple[int, int] | None:
    """Returns the height and width that images are brought to, or None; folders of pictures fit the model that is known.

    Raises ConfigError where the data are no images.
    """
    asked = loaded.config.data.image_size
    if asked == "auto":
        is_bound = known is not None and source.image_size is not None
        return (known.input_size[-2], known.input_size[-1]) if known and is_bound else source.image_size
    if source.kind != "image":
        raise loaded.error(("data", "image_size"), f"these data are {source.kind}, not images", at="key")
    return (asked, asked) if isinstance(asked, int) else (asked[0], asked[1])


def check_fits(shown: Tensor, info: DataInfo) -> None:
    """Raise DataError when samples have other channels or features than the model takes."""
    position, what = (0, "channels") if info.kind == "image" else (-1, "features")
    if shown.shape[position] != info.input_size[position]:
        raise DataError(
            f"the model takes {info.input_size[position]} {what}, these samples have {shown.shape[position]}"
        )
