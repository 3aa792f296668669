"""torchvision's data sets by name, and FashionMNIST also from Debian's package `dataset-fashion-mnist`."""

import gzip
import inspect
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlkit.core.components import ComponentError
from dlkit.core.data.samples import Samples, Source, SourceRequest, TensorSamples
from dlkit.core.data.sources.items import ItemSamples, kind_of
from dlkit.errors import DataError, first_line

DEFAULT_ROOT = "data"
_UNSIGNED_BYTES = 0x08  # in the header of an idx file
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
EMNIST_VARIANTS = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")


def fashion_mnist(*, request: SourceRequest) -> Source:
    """70,000 grey images of 28x28 pixels in 10 classes, 60,000 train and 10,000 test, from root or Debian's folder.

    Source: Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017 (arXiv 1708.07747), MIT licence. Raises DataError when it is
    nowhere.
    """
    folder = _find_fashion_mnist(request)
    if folder is None and request.download:
        _download_fashion_mnist(request)
        folder = _find_fashion_mnist(request)
    if folder is None:
        places = ", ".join(map(str, _fashion_mnist_folders(request)))
        raise DataError(
            f"FashionMNIST is not here (looked in {places}). On Debian or Ubuntu: apt install dataset-fashion-mnist. "
            "Anywhere: data.download=true"
        )
    train, test = (_read_mnist_pair(folder, part) for part in ("train", "t10k"))
    return Source(
        task="classification", kind="image", train=train, val=None, test=test, num_outputs=10, classes=FASHION_CLASSES
    )


def _fashion_mnist_folders(request: SourceRequest) -> list[Path]:
    root = Path(request.root or DEFAULT_ROOT)
    inside_root = [root / "FashionMNIST" / "raw", root / "raw", root]
    return inside_root if request.root else [inside_root[0], DEBIAN_FASHION_MNIST]


def _find_fashion_mnist(request: SourceRequest) -> Path | None:
    for folder in _fashion_mnist_folders(request):
        if _idx_file(folder, "train-images-idx3-ubyte"):
            return folder
    return None


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _download_fashion_mnist(request: SourceRequest) -> None:
    from torchvision.datasets import FashionMNIST

    open_dataset(FashionMNIST, {"train": True}, request)


def _read_mnist_pair(folder: Path, part: str) -> TensorSamples:
    images, labels = (_idx_file(folder, f"{part}-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
    if images is None or labels is None:
        raise DataError(f"{folder}: needs {part}-images-idx3-ubyte and {part}-labels-idx1-ubyte, plain or .gz")
    pixels, targets = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or targets.ndim != 1 or len(pixels) != len(targets):
        raise DataError(
            f"{folder}: {images.name} has shape {tuple(pixels.shape)} and {labels.name} {tuple(targets.shape)}; "
            "they do not fit"
        )
    return TensorSamples(pixels[:, None], targets.long())


def read_idx(path: Path) -> Tensor:
    """Read an idx file of the MNIST family, gzipped or not: uint8. Raises DataError for a file that is broken or of another kind."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from None
    num_dims = content[3] if len(content) >= 4 else 0
    header = 4 + 4 * num_dims
    if content[:3] != bytes([0, 0, _UNSIGNED_BYTES]) or not num_dims or len(content) < header:
        raise DataError(f"{path}: not an idx file of bytes")
    shape = [int.from_bytes(content[4 + 4 * dim : 8 + 4 * dim]) for dim in range(num_dims)]
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path}: holds {len(content) - header} bytes where its header promises {math.prod(shape)}; "
            "fetch the file again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)


def emnist(variant: str = "balanced", *, request: SourceRequest) -> Source:
    """EMNIST's handwritten letters and digits, 28x28; `variant` is torchvision's `split`."""
    from torchvision.datasets import EMNIST

    if variant not in EMNIST_VARIANTS:
        raise ComponentError(f"expected one of {', '.join(EMNIST_VARIANTS)}, got {variant!r}", option="variant")
    train, test = (open_dataset(EMNIST, {"split": variant, "train": is_train}, request) for is_train in (True, False))
    return source_of_datasets(train, None, test, title="EMNIST")


@dataclass(frozen=True)
class SplitNames:
    """What a data set calls its splits."""

    train: str = "train"
    val: str | None = None
    test: str | None = "test"


# data sets whose splits are not plainly train and test
SPLIT_NAMES = {
    "Flowers102": SplitNames(val="val"),
    "DTD": SplitNames(val="val"),
    "CLEVRClassification": SplitNames(val="val", test=None),
    "OxfordIIITPet": SplitNames(train="trainval"),
    "PCAM": SplitNames(val="val"),
    "Country211": SplitNames(val="valid"),
    "FGVCAircraft": SplitNames(val="val"),
    "RenderedSST2": SplitNames(val="val"),
    "Places365": SplitNames(train="train-standard", val="val", test=None),
    "ImageNet": SplitNames(val="val", test=None),
    "Imagenette": SplitNames(val="val", test=None),
}


def open_torchvision(builder: Callable[..., Any], options: Mapping[str, Any], request: SourceRequest) -> Source:
    """Returns the source for a torchvision data set class that takes `train` or `split`. Raises DataError, with the way out,
    when it is not in root.
    """
    parameters = inspect.signature(builder).parameters
    title = builder.__name__
    if title == "OxfordIIITPet" and options.get("target_types") == "segmentation":
        from dlkit.core.data.sources.mask_sets import pet_masks  # which stands on this file

        return pet_masks(builder, request)
    if "train" in parameters:
        parts: list[dict[str, Any] | None] = [{"train": True}, None, {"train": False}]
    else:
        names = SPLIT_NAMES.get(title, SplitNames())
        parts = [{"split": name} if name else None for name in (names.train, names.val, names.test)]
    train, val, test = (None if part is None else open_dataset(builder, {**options, **part}, request) for part in parts)
    return source_of_datasets(train, val, test, title=title)


def open_dataset(builder: Callable[..., Any], options: Mapping[str, Any], request: SourceRequest) -> Any:
    """Returns a data set of torchvision. Raises DataError, with the way out, when it is not in root."""
    root = Path(request.root or DEFAULT_ROOT)
    takes = inspect.signature(builder).parameters
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    download = (
        {"download": request.download} if "download" in takes or (passes_on and builder.__name__ != "ImageNet") else {}
    )
    try:
        return builder(root=str(root), **options, **download)
    except ModuleNotFoundError as error:
        raise DataError(f"{builder.__name__} needs the Python package {error.name}: pip install {error.name}") from None
    except Exception as error:
        way_out = "check the network, or fetch it by hand" if request.download else _way_out(download)
        raise DataError(
            f"{builder.__name__} could not be read from {root}: {first_line(error).rstrip('.')}. To mend it: {way_out}"
        ) from error


def _way_out(download: Mapping[str, Any]) -> str:
    return (
        "data.root=FOLDER where it lies, or data.download=true"
        if download
        else "put it there by hand and set data.root"
    )


def source_of_datasets(train: Any, val: Any, test: Any, *, title: str) -> Source:
    """Returns a source from torchvision dataset objects; whole tensors are taken as they are."""
    parts = [None if part is None else samples_of(part, title) for part in (train, val, test)]
    assert parts[0] is not None
    value = parts[0].look(0)[0]
    labels = [part.targets for part in parts if part is not None]
    classes = class_names(train)
    count = max(int(part.max()) + 1 for part in labels if len(part))
    return Source(
        task="classification",
        kind=kind_of(value),
        train=parts[0],
        val=parts[1],
        test=parts[2],
        num_outputs=max(count, len(classes or ())),
        classes=classes,
    )


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Returns a dataset's own names of its classes, if it has them."""
    found = getattr(dataset, "classes", None)
    if not isinstance(found, list | tuple) or not found:
        return None
    return tuple(", ".join(map(str, name)) if isinstance(name, tuple | list) else str(name) for name in found)


def samples_of(dataset: Any, title: str) -> Samples:
    """Returns samples of a torchvision dataset: its arrays, if they equal what `__getitem__` returns, else item by item."""
    items = ItemSamples(dataset, title, is_random=False)
    if not len(items):
        raise DataError(f"{title}: the split is empty")
    images = _as_images(getattr(dataset, "data", None))
    if images is None or len(images) != len(items):
        return items
    if any(not torch.equal(images[index], items.look(index)[0]) for index in items.probes):
        return items
    return TensorSamples(images, items.targets)


def _as_images(data: Any) -> Tensor | None:
    if not isinstance(data, np.ndarray | Tensor) or str(data.dtype).removeprefix("torch.") != "uint8":
        return None
    tensor = torch.as_tensor(data)
    if tensor.ndim == 3:
        return tensor[:, None]
    if tensor.ndim != 4:
        return None
    # CIFAR keeps NHWC, SVHN and STL10 NCHW
    return (
        tensor.permute(0, 3, 1, 2).contiguous()
        if tensor.shape[3] in (1, 3) and tensor.shape[1] not in (1, 3)
        else tensor
    )
