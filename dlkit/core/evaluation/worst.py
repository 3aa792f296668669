"""The samples that a model is most wrong about, and a sheet of their pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dlkit.core.data import DataInfo, Split
from dlkit.core.evaluation.gathering import Predictions
from dlkit.files import save_figure

LONGEST_NAME = 20


@dataclass(frozen=True)
class WorstSample:
    """A sample by its position in the split, from 0: its class, what is predicted with which probability, and the loss, which is
    minus the logarithm of the probability of its class.
    """

    position: int
    true: str
    predicted: str
    probability: float
    loss: float


def worst_samples(predictions: Predictions, classes: tuple[str, ...], count: int) -> list[WorstSample]:
    """Returns so many samples of the highest loss, or all there are, the worst first; of equal ones the earlier first."""
    shares = predictions.outputs.double().log_softmax(1)
    losses = -shares.gather(1, predictions.targets[:, None])[:, 0]
    order = losses.sort(descending=True, stable=True).indices[:count]
    best, predicted = shares[order].exp().max(1)
    columns = (predictions.indices, predictions.targets, losses)
    positions, targets, chosen = (column[order].tolist() for column in columns)
    return [
        WorstSample(position, classes[target], classes[said], share, loss)
        for position, target, said, share, loss in zip(
            positions, targets, predicted.tolist(), best.tolist(), chosen, strict=True
        )
    ]


def pictures_of(split: Split, positions: Sequence[int], info: DataInfo) -> dict[int, Tensor]:
    """Returns the pictures at these positions as the network gets them, but not normalized: (H, W, 3) or (H, W), 0..1."""
    wanted, found = set(positions), {}
    for batch in split.batches():
        for place, position in enumerate(batch.indices.tolist()):
            if position in wanted:
                found[position] = _picture(batch.inputs[place].float().cpu(), info)
        if len(found) == len(wanted):
            break
    return found


def _picture(image: Tensor, info: DataInfo) -> Tensor:
    if info.mean is not None and info.std is not None:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (info.mean, info.std))
        image = image * std + mean
    image = (image / image.max().clamp(min=1)).clamp(0, 1)
    return image.permute(1, 2, 0) if len(image) == 3 else image.mean(0)  # other channels than colours are no picture


def save_worst_picture(path: Path, samples: Sequence[WorstSample], pictures: Mapping[int, Tensor]) -> None:
    """Write the pictures as a sheet, each below its position and class and the prediction; the ending of `path` picks the format."""
    from matplotlib.figure import Figure  # takes half a second to import

    num_columns = max(1, math.ceil(math.sqrt(len(samples))))
    num_rows = max(1, math.ceil(len(samples) / num_columns))
    figure = Figure(figsize=(1.7 * num_columns, 2 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
    for axes in grid:
        axes.axis("off")
    for axes, sample in zip(grid, samples, strict=False):  # the last row may have room
        axes.imshow(pictures[sample.position].numpy(), cmap="gray", vmin=0, vmax=1)
        true, said = (name[:LONGEST_NAME] for name in (sample.true, sample.predicted))
        title = f"#{sample.position} is {true}\nsaid {said} {sample.probability:.0%}"
        axes.set_title(title, fontsize=7, parse_math=False)
    save_figure(path, figure)
