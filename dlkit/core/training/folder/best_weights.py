"""The best weights of a run: which they are, by their hash, and which file holds them."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def exported_weights(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The weights that are exported of a training state: the moving average where there is one."""
    weights: Mapping[str, Tensor] = (state["state_dict_ema"] or state)["state_dict"]
    return weights


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name!a} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def find_best(
    best: Mapping[str, Any], checkpoints: Iterable[tuple[Path, Mapping[str, Any]]]
) -> tuple[Path, Mapping[str, Tensor]] | None:
    """The first of these checkpoints that holds the weights which a checkpoint names as the best, and the weights."""
    for path, state in checkpoints:
        if _holds(state, best):
            return path, exported_weights(state)
    return None


def _holds(state: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    is_same_step = bool(state["position"]["step"] == best["step"])  # the hash takes a moment
    return is_same_step and weights_digest(exported_weights(state)) == best["weights"]
