"""What outputs say of single inputs: the likeliest classes, the labels that are found, or values in the units of the data."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.data import DataInfo, restore_targets
from dlkit.core.devices import torch_settings
from dlkit.core.evaluation.temperature import calibrated
from dlkit.core.scoring import SCORES


@dataclass(frozen=True)
class Answer:
    """The likeliest classes of an input with their probabilities, best first; for regression `values` instead, and for several labels
    those that are found, which may be none, as `labels`, and for maps the classes that are there with their shares of the pixels, most
    first, as `pixels`. `problem` says why there is no answer.
    """

    classes: list[tuple[str, float]]
    values: list[float]
    labels: list[tuple[str, float]] | None = None
    problem: str = ""
    pixels: list[tuple[str, float]] | None = None


def answer_all(
    network: nn.Module, inputs: Sequence[Tensor | str], info: DataInfo, *, topk: int, device: torch.device
) -> list[Answer]:
    """Returns an answer to each input, as `answers_of`; one to a text, which says why there is no input, is that problem."""
    there = [value for value in inputs if isinstance(value, Tensor)]
    found = iter(answers_of(network, torch.stack(there).to(device), info, topk=topk) if there else ())
    return [next(found) if isinstance(value, Tensor) else Answer([], [], problem=value) for value in inputs]


def answers_of(network: nn.Module, inputs: Tensor, info: DataInfo, *, topk: int) -> list[Answer]:
    """Returns what a network says of each of its inputs (N, ...), which are normalized; of labels all that reach their threshold."""
    # torch's modes are set here and not around a loop, where they would reach the caller at every yield
    with torch_settings(), torch.inference_mode():
        outputs: Tensor = network(inputs).float().cpu()
    if info.task == "regression":
        return [Answer([], values) for values in restore_targets(outputs, info).tolist()]
    names = info.classes or tuple(map(str, range(outputs.shape[1])))
    if info.task == "multilabel":
        return _found_labels(outputs, info, names)
    if outputs.shape[1] == 1:  # of one class alone every network would be sure
        return [Answer([], values) for values in outputs.tolist()]
    values, indices = calibrated(outputs, info).softmax(1).topk(min(topk, outputs.shape[1]), dim=1)
    return [
        Answer([(names[index], value) for index, value in zip(places, shares, strict=True)], [])
        for places, shares in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def _found_labels(outputs: Tensor, info: DataInfo, names: tuple[str, ...]) -> list[Answer]:
    found = SCORES["multilabel"](info).decisions(outputs)
    assert found is not None
    answers = []
    for is_found, shares in zip(found.tolist(), outputs.sigmoid().tolist(), strict=True):
        labels = [pair for pair, is_there in zip(zip(names, shares, strict=True), is_found, strict=True) if is_there]
        answers.append(Answer([], [], sorted(labels, key=lambda pair: -pair[1])))
    return answers


def pixel_answer(mask: Tensor, info: DataInfo) -> Answer:
    """Returns which classes are in a map of classes, (H, W)."""
    names = info.class_names
    shares = torch.bincount(mask.flatten(), minlength=len(names)).double() / mask.numel()
    order = shares.sort(descending=True, stable=True).indices.tolist()
    return Answer([], [], pixels=[(names[place], shares[place].item()) for place in order if shares[place] > 0])


def has_shares(info: DataInfo) -> bool:
    """Whether answers are classes or labels with their probabilities, and no values; a single class is a value."""
    return info.task == "multilabel" or (info.task == "classification" and info.num_outputs > 1)


def target_names(info: DataInfo) -> tuple[str, ...]:
    """Returns the names of what is predicted: one for classes or labels, one for each value else."""
    if info.task == "multilabel":
        return ("labels",)
    count = info.num_outputs if info.task == "regression" else 1
    if info.targets and len(info.targets) == count:
        return info.targets
    return ("target",) if count == 1 else tuple(f"target_{number}" for number in range(1, count + 1))
