"""Weights from files: read without running code, unwrapped from what trainers put around them, loaded with a plain
account.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dlkit.core.models.arch import Arch
from dlkit.core.models.torchvision import find_first_conv, fit_channels, is_published_name, pretrained_state_dict
from dlkit.core.torchfile import read_torch_file
from dlkit.errors import FileRefused
from dlkit.shapes import size_text

StateDict = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model", "model_state_dict")  # timm, torchvision's references, the PyTorch tutorials
_EMA_WRAPPERS = ("state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel and DDP, torch.compile
_AUX_HEADS = ("aux1.", "aux2.", "AuxLogits.")
_OLD_DENSENET = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var|num_batches_tracked))$"
)


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded. `head` are the tensors left at their initialization because the number of classes differs."""

    num_loaded: int
    head: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def read_state_dict(path: str | Path, *, ema: bool = False) -> StateDict:
    """Returns the state dict of a .safetensors file, of a torch file of tensors, or of a dlkit model file, on the CPU and
    unwrapped.

    Raises FileRefused for files that are missing, corrupt, or that would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileRefused(path, "no such file" if not path.exists() else "not a file")
    try:
        return unwrap_state_dict(read_tensors(path), ema=ema)
    except ValueError as error:
        raise FileRefused(path, str(error)) from error


def read_tensors(path: Path) -> Any:
    """Returns what a file holds, tensors and plain values only. Raises FileRefused."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return read_torch_file(path, allow_legacy=True)


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FileRefused(path, f"not a safetensors file, or a damaged one ({error})") from error


def unwrap_state_dict(loaded: object, *, ema: bool = False) -> StateDict:
    """Returns the tensors by their plain names, out of the mappings and key prefixes that trainers put around them.

    `ema` takes the moving average where there is one. Masks of torch.nn.utils.prune are baked in. Module versions
    (`_metadata`) are kept. Raises ValueError for anything that holds no state dict.
    """
    found = loaded
    for _ in range(3):
        inner = _find_wrapped(found, (*_EMA_WRAPPERS, *_WRAPPERS) if ema else _WRAPPERS)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"holds a {type(found).__name__}, no state dict")
    state = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if len(state) < len(found):
        other = next(name for name, value in found.items() if not isinstance(value, Tensor))
        raise ValueError(f"holds no state dict: {other!r:.80} is a {type(found[other]).__name__}, not a tensor")
    return _without_prefixes(state, getattr(found, "_metadata", None))


def _find_wrapped(loaded: object, keys: tuple[str, ...]) -> object | None:
    if not isinstance(loaded, Mapping):
        return None
    return next((loaded[key] for key in keys if isinstance(loaded.get(key), Mapping)), None)


def _without_prefixes(state: Mapping[str, Tensor], versions: Mapping[str, Any] | None) -> StateDict:
    if not all(isinstance(name, str) for name in state):
        raise ValueError("holds no state dict: not every key is a text")
    plain: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in state.items():
        stripped = _strip(name)
        if stripped in plain:
            raise ValueError(f"holds {stripped!r} twice, with and without a prefix")
        plain[stripped] = value
    if versions is not None:
        plain._metadata = {_strip(name + ".").removesuffix("."): value for name, value in versions.items()}  # type: ignore[attr-defined]
    _bake_masks(plain)
    return plain


def _bake_masks(state: OrderedDict[str, Tensor]) -> None:
    """Put `weight` in the place of the `weight_orig` and `weight_mask` that torch.nn.utils.prune keeps, as its `remove` does."""
    for name in [name.removesuffix("_mask") for name in state if name.endswith("_mask")]:
        original, mask = state.get(f"{name}_orig"), state[f"{name}_mask"]
        if original is not None and name not in state and original.shape == mask.shape:
            state[name] = state.pop(f"{name}_orig") * state.pop(f"{name}_mask")


def _strip(name: str) -> str:
    # _orig_mod also stands in the middle, where one part of a model was compiled
    while name.startswith(_PREFIXES):
        name = name.removeprefix("module.").removeprefix("_orig_mod.")
    return name.replace("._orig_mod.", ".")


def load_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, source: str | Path = "weights", strict_head: bool = False
) -> WeightsReport:
    """Load a state dict into the model, in place.

    A head for another number of classes is left at its initialization and reported, unless `strict_head`. A first
    convolution for another number of channels is fitted (`fit_channels`). torchvision's auxiliary heads and missing
    batch counters are passed over. Raises FileRefused with a table of what is missing, unexpected or of another shape;
    the model is unchanged then.
    """
    own = model.state_dict()
    given = _current_names(model, state, own)
    ignored = tuple(name for name in given if name.startswith(_AUX_HEADS) and name not in own)
    given = {name: value for name, value in given.items() if name not in ignored}
    fitted = _fit_first(model, given)
    head = () if strict_head else _head_mismatches(model, given)
    mistakes = _compare(own, {name: value for name, value in given.items() if name not in head}, head)
    if mistakes:
        raise FileRefused(source, _mistake_table(type(model).__name__, mistakes))
    taken: OrderedDict[str, Tensor] = OrderedDict((name, value) for name, value in given.items() if name not in head)
    # modules convert old layouts by these versions; a safetensors file has none, and its names were made current above
    taken._metadata = getattr(state, "_metadata", None) or own._metadata  # type: ignore[attr-defined]
    model.load_state_dict(taken, strict=False)
    return WeightsReport(len(given) - len(head), head, fitted, ignored)


def _current_names(model: nn.Module, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> StateDict:
    """Returns the state with names as today's torchvision has them: its DenseNet and ViT files are older than its classes."""
    names = {name: _OLD_DENSENET.sub(r"\1\2", name) for name in state}
    for name in state:
        newer = re.sub(r"\.mlp\.linear_([12])\.", lambda match: f".mlp.{(int(match[1]) - 1) * 3}.", name)
        if newer in own:
            names[name] = newer
    return {new if new in own else old: state[old] for old, new in names.items()}


def _fit_first(model: nn.Module, given: StateDict) -> tuple[str, ...]:
    found = find_first_conv(model)
    if found is None:
        return ()
    key = f"{found[0]}.weight".lstrip(".")
    want, have = found[1].weight, given.get(key)
    is_other_input = have is not None and have.dim() == 4 and have.shape[1] != want.shape[1]
    if (
        have is None
        or not is_other_input
        or (have.shape[0], *have.shape[2:]) != (want.shape[0], *want.shape[2:])
        or found[1].groups != 1
    ):
        return ()
    given[key] = fit_channels(have, want.shape[1])
    return (key,)


def _head_mismatches(model: nn.Module, given: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Returns tensors of the last linear layer or convolution, when it is there with another number of outputs only."""
    head = find_head(model)
    if head is None:
        return ()
    name, module = head
    own = {f"{name}.{key}".lstrip("."): parameter for key, parameter in module.named_parameters()}
    same_but_first = all(key in given and given[key].shape[1:] == parameter.shape[1:] for key, parameter in own.items())
    differs = any(key in given and given[key].shape[:1] != parameter.shape[:1] for key, parameter in own.items())
    return tuple(own) if same_but_first and differs else ()


def find_head(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Name and module of the last linear layer or convolution, whose outputs are the classes."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    heads = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    return heads[-1] if heads else None


def _compare(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], head: tuple[str, ...]
) -> list[tuple[str, str, str]]:
    """Returns rows of (tensor, in the model, in the file); an empty text where it is not there."""
    rows = []
    for name, want in own.items():
        have = given.get(name)
        if have is None and name not in head and not name.endswith("num_batches_tracked"):
            rows.append((name, _words(want), ""))
        elif have is not None and have.shape != want.shape:
            rows.append((name, _words(want), _words(have)))
    return rows + [(name, "", _words(have)) for name, have in given.items() if name not in own]


def _words(tensor: Tensor) -> str:
    return size_text(tensor.shape) if tensor.ndim else "a number"


def _mistake_table(model_name: str, rows: list[tuple[str, str, str]], *, most: int = 8) -> str:
    width = max(len(name) for name, _, _ in rows[:most])
    lines = [
        f"does not fit {model_name}: {len(rows)} tensors differ",
        f"  {'tensor':{width}}  {'model':>12}  {'file':>12}",
    ]
    lines += [f"  {name:{width}}  {want or 'missing':>12}  {have or 'missing':>12}" for name, want, have in rows[:most]]
    if len(rows) > most:
        lines.append(f"  ... and {len(rows) - most} more")
    return "\n".join(lines)


def load_initial_weights(model: nn.Module, arch: Arch, weights: str) -> WeightsReport:
    """Load what a config's `model.weights` names: a file, or for a torchvision model `DEFAULT` or the name of published
    weights.
    """
    if arch.registry == "torchvision" and is_published_name(weights):
        return load_weights(model, pretrained_state_dict(arch.name, weights), source=weights)
    return load_weights(model, read_state_dict(weights), source=weights)
