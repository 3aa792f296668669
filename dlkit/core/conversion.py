"""Turning a pickled model into weights or a model file: the one place where a pickle is loaded, and only when asked to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dlkit.config import Model
from dlkit.core.components import ComponentError
from dlkit.core.data import DataInfo
from dlkit.core.modelfile import ModelSpec, save_model_file
from dlkit.core.models import build_model, load_weights, plan_arch, read_state_dict, unwrap_state_dict
from dlkit.core.opening import IMAGENET_MEAN, IMAGENET_STD, count_torchvision_classes
from dlkit.core.torchfile import save_torch_file
from dlkit.errors import FileRefused, UsageError
from dlkit.files import write_bytes


def read_any(path: Path, *, trust_pickle: bool) -> dict[str, Tensor]:
    """The weights of a file. With `trust_pickle` code in the file may run, so that whole pickled models can be read.

    Raises FileRefused when the file holds no weights.
    """
    if not trust_pickle:
        return read_state_dict(path)
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=False)
        if isinstance(loaded, nn.Module):
            return dict(loaded.state_dict())
        return unwrap_state_dict(loaded)
    except Exception as error:  # unpickling runs the file's own code, which may raise anything
        raise FileRefused(path, f"cannot be converted: {type(error).__name__}: {error}") from error


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights alone: .safetensors, or a torch file of tensors."""
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    if path.suffix == ".safetensors":
        write_bytes(path, save(tensors, metadata={"format": "pt"}))
    else:
        save_torch_file(path, tensors)


def write_model(path: Path, weights: Mapping[str, Tensor], arch_name: str, info: DataInfo) -> None:
    """Write a model file for a network of the registry that these weights fit. Raises FileRefused when they do not."""
    try:
        arch = plan_arch(Model(name=arch_name), input_size=info.input_size, num_outputs=info.num_outputs)
    except ComponentError as error:
        raise UsageError(f"--arch {arch_name}: {error}") from error
    if arch.registry == "user":
        raise UsageError(
            f"--arch {arch_name}: a model file describes networks of dlkit and torchvision; write .safetensors instead"
        )
    network = build_model(arch)
    load_weights(network, weights, source=path, strict_head=True)
    save_model_file(path, ModelSpec(arch, info), network.state_dict())


def imagenet_info(num_classes: int, size: int) -> DataInfo:
    """The usual description of a torchvision classifier's input."""
    return DataInfo("classification", "image", (3, size, size), num_classes, None, IMAGENET_MEAN, IMAGENET_STD)


def count_outputs(weights: Mapping[str, Tensor], arch_name: str) -> int:
    """The number of classes: what the head of a torchvision network has, else the rows of the last matrix or filter bank.

    Raises UsageError when there is none.
    """
    if count := count_torchvision_classes(arch_name, weights):
        return count
    heads = [tensor for tensor in weights.values() if tensor.ndim in (2, 4)]
    if not heads:
        raise UsageError("cannot tell the number of classes from these weights; give --num-classes")
    return int(heads[-1].shape[0])
