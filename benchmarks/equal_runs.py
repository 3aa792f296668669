"""Whether two runs came to the same, to the bit."""

import json
from typing import Any

import torch


def strip(line: str) -> dict[str, Any]:
    """A line of metrics without times."""
    return {key: value for key, value in json.loads(line).items() if key != "train_s"}


def same(first: Any, second: Any) -> bool:
    """Whether two nests of tensors and values are equal to the bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)
