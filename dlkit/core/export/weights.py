"""Weights alone, under their plain names, in files that cannot hold code."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from dlkit.core.export.metadata import file_metadata, find_spec_of
from dlkit.errors import DlkitError
from dlkit.files import write_bytes


def plain_weights(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network on the CPU, each with memory of its own."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}


def write_state_dict(network: nn.Module, path: Path) -> None:
    """Write what `torch.load(path, weights_only=True)` reads: a dict of tensors."""
    weights, buffer = plain_weights(network), io.BytesIO()
    torch.save(weights, buffer)
    buffer.seek(0)
    _require_equal(torch.load(buffer, weights_only=True), weights)
    write_bytes(path, buffer.getbuffer())


def write_safetensors(network: nn.Module, path: Path) -> None:
    """Write a safetensors file, with what the network's description says in its metadata."""
    write_bytes(path, safetensors_bytes(plain_weights(network), file_metadata(find_spec_of(network))))


def safetensors_bytes(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file in memory, read back once."""
    data: bytes = save(dict(weights), {"format": "pt", **metadata})
    _require_equal(load(data), weights)
    return data


def _require_equal(found: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    same = found.keys() == weights.keys() and all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in weights.items()
    )
    if not same:
        raise DlkitError("not written: read back, the file holds other weights than the network")
