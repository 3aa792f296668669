"""What a file from anywhere may hold: plain values and dense tensors, few and small enough to be walked over and shown.

A container that stands in many places counts once for each, as everybody who walks over it meets it so often; one that holds
itself is refused.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

MOST_VALUES = 2_000_000
MOST_TENSORS = 50_000
DEEPEST = 64
LONGEST_NAME = 1_000
LONGEST_TEXT = 2**20
LARGEST_NUMBER = 2**64
MOST_VIEWED = 16  # times its own bytes that the tensors of a file may be together, as several may share one storage
ALWAYS_VIEWED = 64 * 2**20

_CONTAINERS = (dict, list, tuple, set)
_TOO_MUCH = f"holds more than {MOST_VALUES:,} values, or more than {DEEPEST} levels of them"


def check_plain(value: Any, *, num_bytes: int) -> None:
    """Raise ValueError, with the reason, for what a file of `num_bytes` may not hold."""
    tensors: dict[int, Tensor] = {}
    extents: dict[int, tuple[int, int]] = {}  # values and levels of each container, by its identity
    entered: set[int] = set()
    pending: list[Any] = [[value]]  # in a list, so that a value that is none is a part of one too
    while pending:
        item = pending[-1]
        if len(item) + len(pending) + len(extents) > MOST_VALUES:
            raise ValueError(_TOO_MUCH)
        open_parts = [part for part in _parts(item) if isinstance(part, _CONTAINERS) and id(part) not in extents]
        if open_parts and id(item) not in entered:
            if not entered.isdisjoint(map(id, open_parts)):
                raise ValueError("holds a list or mapping that holds itself")
            entered.add(id(item))
            pending += open_parts
            continue
        entered.discard(id(item))
        pending.pop()
        extents[id(item)] = _extent(item, extents)
        tensors |= {id(part): part for part in _parts(item) if isinstance(part, Tensor)}
    _check_together(tensors.values(), num_bytes)


def _parts(item: Any) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item


def _extent(item: Any, extents: Mapping[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a container holds and how many levels, from those of the containers in it; its other parts are checked."""
    if isinstance(item, dict):
        for key in item:
            _check_key(key)
    size, depth = 1, 0
    for part in _parts(item):
        if isinstance(part, _CONTAINERS):
            size, depth = size + extents[id(part)][0], max(depth, extents[id(part)][1])
        else:
            size += _check_leaf(part)
    if size > MOST_VALUES or depth >= DEEPEST:
        raise ValueError(_TOO_MUCH)
    return size, depth + 1


def _check_key(key: Any) -> None:
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, str):
            _check_text(part, LONGEST_NAME, "a name")
        else:
            _check_leaf(part)


def _check_leaf(value: Any) -> int:
    """Returns as how many values it counts."""
    if isinstance(value, Tensor):
        _check_tensor(value)
    elif isinstance(value, str):
        _check_text(value, LONGEST_TEXT, "a text")
        return 1 + len(value) // 64
    elif isinstance(value, int):
        if abs(value) > LARGEST_NUMBER:
            raise ValueError("holds a whole number of more than 64 bits")
    elif value is not None and not isinstance(value, float | torch.dtype):
        raise ValueError(f"holds a {type(value).__name__:.80}; only tensors and plain values are read")
    return 1


def _check_text(text: str, most: int, what: str) -> None:
    if len(text) > most:
        raise ValueError(f"holds {what} of {len(text):,} characters; at most {most:,} are read")
    try:
        text.encode()
    except UnicodeEncodeError:  # one half of a pair, which can be neither printed nor stored
        raise ValueError(f"holds {what} that is not Unicode: {text!a:.80}") from None


def _check_tensor(tensor: Tensor) -> None:
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        raise ValueError(f"holds a tensor of layout {tensor.layout} on {tensor.device}; only dense tensors are read")
    # a stride of 0 would let a few bytes claim to be a huge tensor
    if total_bytes([tensor]) > tensor.untyped_storage().nbytes():
        raise ValueError("holds a tensor that is larger than the bytes stored for it")


def _check_together(tensors: Iterable[Tensor], num_bytes: int) -> None:
    tensors = list(tensors)
    if len(tensors) > MOST_TENSORS:
        raise ValueError(f"holds {len(tensors):,} tensors; at most {MOST_TENSORS:,} are read")
    if total_bytes(tensors) > ALWAYS_VIEWED + MOST_VIEWED * num_bytes:
        raise ValueError(
            "holds tensors that share their bytes over and over; together they are far larger than the file"
        )


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """The bytes of all numbers of tensors, those on the meta device too."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def stored_bytes(tensors: Iterable[Tensor]) -> int:
    """The bytes behind tensors; what several share counts once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
