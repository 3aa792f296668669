"""Turning a pickled model into weights or a model file: the one place where a pickle is loaded, and only when asked to."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dlkit.config import Model
from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.core.models import FoundWeights, find_weights, read_weights
from dlkit.core.opening import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TORCHVISION,
    Naming,
    check_arch,
    is_sized_by_weights,
    open_weights,
    put_into_network,
    task_of,
)
from dlkit.core.torchfile import save_torch_file
from dlkit.errors import FileRefused, UsageError
from dlkit.events import Emit, ignore
from dlkit.files import write_bytes

# classes of torch that hold the network that they wrap under this name
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
}


def read_any(path: Path, *, trust_pickle: bool, key: str | None = None) -> FoundWeights:
    """The weights of a file, under `key` where it holds several. With `trust_pickle` code in the file may run, so that whole
    pickled models can be read.

    Raises FileRefused when the file holds no weights.
    """
    if not trust_pickle:
        return read_weights(path, key=key)
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=False)
        return find_weights(_without_modules(loaded), key=key)
    except Exception as error:  # unpickling runs the file's own code, which may raise anything
        raise FileRefused(path, f"cannot be converted: {type(error).__name__}: {error}") from error


def _without_modules(value: Any) -> Any:
    """The value with the state dict of every module in its place."""
    if isinstance(value, nn.Module):
        return _plain_state(value)
    return {key: _without_modules(inner) for key, inner in value.items()} if type(value) is dict else value


def _plain_state(module: nn.Module) -> Mapping[str, Tensor]:
    """The state dict of a module without the wrappers of torch that it, or a part of it, is in; versions are kept."""
    inner = next((getattr(module, part) for kind, part in _WRAPPERS.items() if type(module).__name__ == kind), None)
    if isinstance(inner, nn.Module):
        return _plain_state(inner)
    state = module.state_dict()
    for path, part in reversed([(path, inner) for path, inner in module.named_modules() if path]):
        if (name := _WRAPPERS.get(type(part).__name__)) is not None:
            old, new = f"{path}.{name}.", f"{path}."
            for key in [key for key in state if key.startswith(old)]:
                state[new + key.removeprefix(old)] = state.pop(key)
    return state


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights alone: .safetensors, or a torch file of tensors."""
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    if path.suffix == ".safetensors":
        write_bytes(path, save(tensors, metadata={"format": "pt"}))
    else:
        save_torch_file(path, tensors)


def write_model(
    path: Path, weights: Mapping[str, Tensor], naming: Naming, *, source: Path, emit: Emit = ignore
) -> ModelSpec:
    """Write a model file for a network of the registry that the weights of `source` fit, and return what it says of itself.

    Raises FileRefused when they do not fit.
    """
    assert naming.arch is not None
    name = naming.arch.removeprefix(TORCHVISION)
    check_arch(naming.arch)
    if is_sized_by_weights(name):
        file = open_weights(source, weights, naming, emit=emit)
    else:
        outputs, side = naming.num_classes or _count_outputs(weights), naming.image_size or 224
        info = DataInfo(task_of(name), "image", (3, side, side), outputs, None, IMAGENET_MEAN, IMAGENET_STD)
        file = put_into_network(source, weights, Model(name=name), info=info, emit=emit)
    spec = replace(file.spec, provenance={**file.spec.provenance, "weights": source.name})
    save_model_file(path, spec, file.state_dict)
    return spec


def _count_outputs(weights: Mapping[str, Tensor]) -> int:
    heads = [tensor for tensor in weights.values() if tensor.ndim in (2, 4)]
    if not heads:
        raise UsageError("cannot tell the number of classes from these weights; give --num-classes")
    return int(heads[-1].shape[0])
