"""Whether two runs came to the same, to the bit."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch


def differences(first: Path, second: Path, keys: Iterable[str]) -> list[str]:
    """What differs between two runs: these keys of their last checkpoints, and their metrics."""
    one, other = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in (first, second))
    problems = [f"{key} differs" for key in keys if not same(one[key], other[key])]
    lines = [[strip(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (first, second)]
    return problems + (["metrics.jsonl differs"] if lines[0] != lines[1] else [])


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
