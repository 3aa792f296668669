"""Weights alone, under their plain names, in files that cannot hold code."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from dlkit.core.export.metadata import file_metadata, find_spec_of
from dlkit.errors import DlkitError, UsageError
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


def write_sparse(network: nn.Module, path: Path) -> None:
    """Write what `torch.load(path, weights_only=True)` reads: a dict of tensors, of which those that are mostly zeros are torch's
    CSR matrices, or CSC where that is smaller.

    Sparse matrices have two dimensions: weights with more are (outputs, everything else). Raises UsageError where no weight is
    smaller in this form.
    """
    weights = plain_weights(network)
    stored = {name: _sparse_form(tensor) for name, tensor in weights.items()}
    if all(tensor.layout is torch.strided for tensor in stored.values()):
        raise UsageError(
            "no weight has enough zeros to be smaller as CSR or CSC, which store an index with every number: below 50 % zeros "
            "--format state-dict is smaller. `dlkit prune MODEL --amount 90%` makes zeros"
        )
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    buffer.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says that checking sparse tensors takes a moment
        read = torch.load(buffer, weights_only=True)
    _require_equal({name: tensor.to_dense().reshape(weights[name].shape) for name, tensor in read.items()}, weights)
    write_bytes(path, buffer.getbuffer())


def _sparse_form(tensor: Tensor) -> Tensor:
    """CSR or CSC with 32-bit indices, whichever is smaller; the tensor itself where that is smallest."""
    if tensor.dim() < 2 or not tensor.is_floating_point() or not tensor.numel():
        return tensor
    matrix = tensor.reshape(tensor.shape[0], -1)
    count = int((matrix != 0).sum())
    sizes = [4 * (1 + side) + count * (4 + tensor.element_size()) for side in matrix.shape]
    if min(sizes) >= tensor.nbytes:
        return tensor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR tensors a beta
        if sizes[0] <= sizes[1]:
            csr = matrix.to_sparse_csr()
            indices = (csr.crow_indices().int(), csr.col_indices().int())
            return torch.sparse_csr_tensor(*indices, csr.values(), matrix.shape, check_invariants=True)
        csc = matrix.to_sparse_csc()
        indices = (csc.ccol_indices().int(), csc.row_indices().int())
        return torch.sparse_csc_tensor(*indices, csc.values(), matrix.shape, check_invariants=True)


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
