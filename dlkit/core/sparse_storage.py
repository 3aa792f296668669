"""Weights that are mostly zeros, stored as the other values and one bit for each place: plain tensors, equal bit for bit.

A model file with such weights lists them beside its `state_dict`, all of one element type together, as every tensor in a file
takes some hundred bytes of its own:

    "sparse": {"order": [names], "packed": [{"shapes": {name: shape}, "bitmap": uint8, "values": tensor}], "tied": {name: name}}

`bitmap` has the places of all these weights one after the other, eight to a byte, the lowest bit first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

LEAST_SAVED = 0.1  # of a weight's bytes and of all together; less is not worth a form that other tools do not know
LEAST_NUMBERS = 256
_BITS = torch.arange(8, dtype=torch.uint8)
_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack_tensors(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Split the tensors of a network into those that stay as they are and those that are stored packed; None without any, and
    where all together would save too little.

    Tensors that share their memory are packed once.
    """
    chosen = {name: tensor for name, tensor in tensors.items() if packed_bytes(tensor) is not None}
    size = measure_stored(tensors)
    if not size.is_packed:
        return dict(tensors), None
    first: dict[tuple[Any, ...], str] = {}
    owners = {name: first.setdefault(_memory(tensor), name) for name, tensor in chosen.items()}
    alone = {name: chosen[name] for name in dict.fromkeys(owners.values())}
    dtypes = dict.fromkeys(tensor.dtype for tensor in alone.values())
    sparse = {
        "order": list(tensors),
        "packed": [_pack({name: t for name, t in alone.items() if t.dtype == dtype}) for dtype in dtypes],
        "tied": {name: owner for name, owner in owners.items() if name != owner},
    }
    return {name: tensor for name, tensor in tensors.items() if name not in chosen}, sparse


def packed_bytes(tensor: Tensor) -> int | None:
    """Bytes that a tensor takes packed; None where it stays as it is, because too little would be saved."""
    if tensor.dim() < 2 or not tensor.is_floating_point() or tensor.numel() < LEAST_NUMBERS:
        return None
    size = int(_is_kept(tensor).sum()) * tensor.element_size() + -(-tensor.numel() // 8)
    return size if size <= (1 - LEAST_SAVED) * tensor.nbytes else None


@dataclass(frozen=True)
class StoredBytes:
    """Bytes of a network's tensors, all of them dense and as a model file stores them."""

    dense: int
    stored: int

    @property
    def is_packed(self) -> bool:
        """Whether some are stored packed."""
        return self.stored < self.dense


def measure_stored(tensors: Mapping[str, Tensor]) -> StoredBytes:
    """Bytes of a network's tensors, without what a file needs around them; shared ones count once."""
    alone = {_memory(tensor): tensor.detach() for tensor in tensors.values()}.values()
    sizes = [(tensor.nbytes, packed_bytes(tensor)) for tensor in alone]
    dense = sum(size for size, _ in sizes)
    packed = sum(size if small is None else small for size, small in sizes)
    return StoredBytes(dense, packed if packed <= (1 - LEAST_SAVED) * dense else dense)


def unpack_tensors(dense: Mapping[str, Tensor], sparse: Any, *, most_numbers: int) -> dict[str, Tensor]:
    """All tensors again, in their order. Raises ValueError for what `pack_tensors` did not make, and for more packed numbers
    than `most_numbers`: blocks of a hostile file may share one bitmap.
    """
    if not isinstance(sparse, dict) or not {"order", "packed", "tied"} <= set(sparse):
        raise ValueError("its sparse weights are not described")
    found = dict(dense)
    if sum(8 * len(block["bitmap"]) for block in sparse["packed"]) > most_numbers:
        raise ValueError("its sparse weights are more than its bytes can tell")
    for block in sparse["packed"]:
        found |= _unpack(block)
    for name, owner in dict(sparse["tied"]).items():
        if owner not in found:
            raise ValueError(f"{name!r:.80} is tied to a weight that is not there")
        found[name] = found[owner]
    if sorted(found) != sorted(sparse["order"]):
        raise ValueError("its sparse weights are not those that it lists")
    return {name: found[name] for name in sparse["order"]}


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    return (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def _is_kept(tensor: Tensor) -> Tensor:
    """Where the bits are not those of +0, which -0 is not."""
    return tensor.contiguous().view(_WHOLE[tensor.element_size()]) != 0


def _pack(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    kept = _is_kept(flat)
    padded = torch.cat([kept, kept.new_zeros(-len(kept) % 8)]).to(torch.uint8).reshape(-1, 8)
    bitmap = (padded << _BITS).sum(1, dtype=torch.uint8)
    return {
        "shapes": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "bitmap": bitmap,
        "values": flat[kept],
    }


def _unpack(block: Any) -> dict[str, Tensor]:
    shapes, bitmap, values = block["shapes"], block["bitmap"], block["values"]
    whole = all(type(size) is int and size >= 0 for shape in shapes.values() for size in shape)
    if not whole or bitmap.dtype != torch.uint8 or bitmap.dim() != 1 or values.dim() != 1:
        raise ValueError("its sparse weights have no shapes, or no bitmap")
    sizes = [prod(shape) for shape in shapes.values()]
    if -(-sum(sizes) // 8) != len(bitmap):
        raise ValueError("its bitmap is not as long as its sparse weights")
    kept = ((bitmap[:, None] >> _BITS) & 1).bool().flatten()[: sum(sizes)]
    if int(kept.sum()) != len(values):
        raise ValueError("its sparse weights have another number of values than its bitmap")
    flat = torch.zeros(sum(sizes), dtype=values.dtype)
    flat[kept] = values
    parts = torch.split(flat, sizes)
    return {name: part.reshape(shape).clone() for (name, shape), part in zip(shapes.items(), parts, strict=True)}
