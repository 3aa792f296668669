"""What a file is and holds, told without running code from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dlkit.core.file_forms import CheckpointForm, check_form
from dlkit.core.metric_rows import unpack_rows
from dlkit.core.modelfile import ModelSpec, is_model_file, parse_model_file, read_spec
from dlkit.core.models import find_weights, guess_classifiers, plain_reading
from dlkit.core.opening import read_path
from dlkit.errors import FileRefused
from dlkit.shapes import size_text

CHECKPOINT = "dlkit.train"
MOST_SIZES = 5


@dataclass(frozen=True)
class TensorFacts:
    """One tensor of a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Inspection:
    """What a file is. `kind` is `model`, `checkpoint` or `weights`; `spec` is what a model file says of itself, `training`
    where a checkpoint stands, `fits` the torchvision classifiers that weights belong to.

    `bytes_by_dtype` counts what tensors take, `num_bytes` the whole file.
    """

    path: Path
    kind: str
    num_bytes: int
    tensors: tuple[TensorFacts, ...]
    bytes_by_dtype: Mapping[str, int]
    spec: ModelSpec | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    fits: tuple[str, ...] = ()

    @property
    def num_numbers(self) -> int:
        """Elements of all tensors: parameters, statistics, scales."""
        return sum(_count(tensor.shape) for tensor in self.tensors)


def inspect_file(path: Path) -> Inspection:
    """Read a file and say what it holds. Raises FileRefused, with the reason, for what is damaged or would run code."""
    value = read_path(path)
    if is_model_file(value):
        file = parse_model_file(path, value)
        return _describe(path, "model", file.state_dict, spec=file.spec)
    if isinstance(value, Mapping) and value.get("format") == CHECKPOINT:
        return _describe_checkpoint(path, value)
    try:
        weights = plain_reading(find_weights(value).state).state
    except ValueError as error:
        raise FileRefused(path, str(error)) from error
    return _describe(path, "weights", weights, fits=tuple(guess_classifiers(weights)))


def _describe(path: Path, kind: str, state: Mapping[str, Tensor], **facts: Any) -> Inspection:
    tensors = tuple(TensorFacts(name, tuple(tensor.shape), _dtype(tensor)) for name, tensor in state.items())
    sizes: dict[str, int] = {}
    for tensor in state.values():
        sizes[_dtype(tensor)] = sizes.get(_dtype(tensor), 0) + tensor.numel() * tensor.element_size()
    return Inspection(path, kind, path.stat().st_size, tensors, sizes, **facts)


def _describe_checkpoint(path: Path, value: Mapping[str, Any]) -> Inspection:
    check_form(path, value, CheckpointForm)
    history = unpack_rows(value["history"])
    training = {**value["position"], "best": value["best"], "last": history[-1] if history else {}}
    state = value["state_dict"]
    spec = read_spec(path, value["spec"], state)
    return _describe(path, "checkpoint", state, spec=spec, training=training)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def rewrite_words(rewrite: Mapping[str, Any]) -> str:
    """A rewrite of the network that a file lists, in words: its kind, then its settings; long lists as their length."""
    if rewrite.get("op") == "prune":
        listed = [found for key in ("sizes", "parameters") if isinstance(found := rewrite.get(key), Mapping)]
        return f"prune: {sum(map(len, listed))} layers are smaller"
    settings = [_setting(name, value) for name, value in rewrite.items() if name != "op"]
    return f"{rewrite.get('op')}: {', '.join(settings)}" if settings else str(rewrite.get("op"))


def _setting(name: str, value: Any) -> str:
    words = name.replace("_", " ").removeprefix("is ")
    if isinstance(value, bool):
        return f"{words} {'yes' if value else 'no'}"
    if isinstance(value, list) and value and len(value) <= MOST_SIZES and all(type(item) is int for item in value):
        return f"{words} {size_text(value)}"
    if isinstance(value, list | tuple | Mapping):
        return f"{words} {len(value) or 'none'}"
    return f"{words} {value}"
