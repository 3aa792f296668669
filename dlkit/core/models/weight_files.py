"""Weights from files: read without running code, and taken out of what trainers save around them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dlkit.core.plain_values import check_plain
from dlkit.core.torchfile import check_file, read_torch_file, refused
from dlkit.errors import FileRefused

StateDict = dict[str, Tensor]

# timm, Lightning and mmcv; torchvision's references, Detectron2, fairseq and fastai; PyTorch's tutorials; BasicSR; DeepSpeed
_CONTAINERS = (
    *("state_dict", "model", "model_state_dict", "model_state", "params", "weights", "model_weights"),
    *("net", "net_state_dict", "network", "network_state_dict", "module", "state"),
)
_AVERAGES = ("state_dict_ema", "model_ema", "params_ema", "ema_state_dict", "model_ema_state_dict", "ema", "ema_model")
_DEEPEST = 4


@dataclass(frozen=True)
class FoundWeights:
    """A state dict that lay under `keys` of a file; `others` are keys beside it that hold weights too."""

    state: StateDict
    keys: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Where the weights lay and what lies beside them; an empty text where nothing was around them."""
        if not self.keys:
            return ""
        where = f"weights under {'.'.join(self.keys)!r}"
        return where + (f"; {' and '.join(map(repr, self.others))} hold weights too" if self.others else "")


def read_state_dict(path: str | Path) -> StateDict:
    """Returns the state dict of a .safetensors file, of a torch file of tensors, or of a dlkit model file or checkpoint, on
    the CPU, out of the mappings around it. Names are as they stand there.

    Raises FileRefused for files that are missing, corrupt, or that would have to run code to be read.
    """
    return read_weights(path).state


def read_weights(path: str | Path, *, key: str | None = None) -> FoundWeights:
    """As `read_state_dict`, with where the weights lay in the file; `key` chooses one of several."""
    path = Path(path)
    try:
        return find_weights(read_tensors(path), key=key)
    except ValueError as error:
        raise FileRefused(path, str(error)) from error


def read_tensors(path: Path) -> Any:
    """Returns what a file holds, tensors and plain values only. Raises FileRefused."""
    check_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return read_torch_file(path, allow_legacy=True)


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            same_as = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FileRefused(path, f"not a safetensors file, or a damaged one ({error})") from error
    with refused(path):
        check_plain(state, num_bytes=path.stat().st_size)
    # save_model writes a tied weight once, and beside it which name stands for which
    return state | {name: state[kept] for name, kept in same_as.items() if kept in state and name not in state}


def find_weights(loaded: object, *, key: str | None = None) -> FoundWeights:
    """Returns the one state dict in nested mappings, by the keys that trainers use; a moving average only where `key` asks
    for it or nothing else is there.

    Versions of modules (`_metadata`) are kept. Raises ValueError for what holds no state dict, and for several under keys that do
    not tell which is meant.
    """
    found, keys = loaded, []
    others: tuple[str, ...] = ()
    for wanted in key.split(".") if key else ():
        found = _choose(found, wanted)
        keys.append(wanted)
    while isinstance(found, Mapping) and not _is_state(found) and (choices := _choices(found)):
        keys.append(_pick(choices))
        others = (*others, *(choice for choice in choices if choice != keys[-1]))
        found = found[keys[-1]]
    return FoundWeights(_checked_state(found), tuple(keys), others)


def _choose(found: object, key: str) -> object:
    choices = _choices(found) if isinstance(found, Mapping) else []
    if not isinstance(found, Mapping) or key not in choices:
        raise ValueError(f"holds no weights under {key!r}, only under {', '.join(map(repr, choices)) or 'no key'}")
    return found[key]


def _choices(found: Mapping[Any, Any]) -> list[str]:
    return [key for key, value in found.items() if isinstance(key, str) and _holds_weights(key, value, _DEEPEST)]


def _holds_weights(key: str, value: object, depth: int) -> bool:
    if not isinstance(value, Mapping) or not value or not depth or "optim" in key.casefold():
        return False
    if not all(isinstance(name, str) for name in value):  # moments of an optimizer have numbers
        return False
    return _is_state(value) or any(_holds_weights(name, inner, depth - 1) for name, inner in value.items())


def _is_state(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(tensor, Tensor) for tensor in value.values())


def _pick(choices: list[str]) -> str:
    known = next((key for key in (*_CONTAINERS, *_AVERAGES) if key in choices), None)
    if known is None and len(choices) > 1:
        listed = " and ".join(map(repr, choices))
        raise ValueError(
            f"holds several state dicts, under {listed}; write the one that you mean to a file of its own: "
            f"dlkit convert FILE NEW.pth --key {choices[0]}"
        )
    return known or choices[0]


def _checked_state(found: object) -> StateDict:
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"holds a {type(found).__name__}, no state dict")
    if not _is_state(found):
        other = next(name for name, value in found.items() if not isinstance(value, Tensor))
        raise ValueError(f"holds no state dict: {other!r:.80} is a {type(found[other]).__name__}, not a tensor")
    if not all(isinstance(name, str) for name in found):
        raise ValueError("holds no state dict: not every key is a text")
    return found  # type: ignore[return-value]
