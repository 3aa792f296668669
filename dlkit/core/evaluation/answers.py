"""What outputs say of single inputs: the likeliest classes, or values in the units of the data."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.data import DataInfo, restore_targets
from dlkit.core.devices import torch_settings


@dataclass(frozen=True)
class Answer:
    """The likeliest classes of an input with their probabilities, best first; for regression `values` instead."""

    classes: list[tuple[str, float]]
    values: list[float]


def answers_of(network: nn.Module, inputs: Tensor, info: DataInfo, *, topk: int) -> list[Answer]:
    """Returns what a network says of each of its inputs (N, ...), which are normalized."""
    # torch's modes are set here and not around a loop, where they would reach the caller at every yield
    with torch_settings(), torch.inference_mode():
        outputs: Tensor = network(inputs).float().cpu()
    if info.task == "regression":
        return [Answer([], values) for values in restore_targets(outputs, info).tolist()]
    if outputs.shape[1] == 1:  # of one class alone every network would be sure
        return [Answer([], values) for values in outputs.tolist()]
    names = info.classes or tuple(map(str, range(outputs.shape[1])))
    values, indices = outputs.softmax(1).topk(min(topk, outputs.shape[1]), dim=1)
    return [
        Answer([(names[index], value) for index, value in zip(places, shares, strict=True)], [])
        for places, shares in zip(indices.tolist(), values.tolist(), strict=True)
    ]
