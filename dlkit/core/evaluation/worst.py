"""The samples that a model is most wrong about, and a sheet of their pictures."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from dlkit.core.data import Batch, DataInfo, Split, restore_targets
from dlkit.core.evaluation.gathering import Predictions
from dlkit.core.evaluation.temperature import calibrated
from dlkit.core.scoring import SCORES
from dlkit.files import save_figure

LONGEST_NAME = 20


@dataclass(frozen=True)
class WorstSample:
    """A sample by its position in the split, from 0, and its name, which is its file if it is one: what it is, what is predicted, and
    the loss.

    The loss is minus the logarithm of the probability of its class, the mean of that over labels, or the mean squared error over
    targets, standardized if training was. `probability` is that of the class that is predicted, None for labels and numbers.

    Of maps, `true` and `predicted` are the names of the classes that its counted pixels have, the loss is the mean cross-entropy over
    these pixels, and `iou`, None for other tasks, the mean intersection over union of these classes.
    """

    position: int
    name: str
    true: str
    predicted: str
    probability: float | None
    loss: float
    iou: float | None = None


def worst_samples(
    predictions: Predictions, info: DataInfo, count: int, *, name_of: Callable[[int], str]
) -> list[WorstSample]:
    """Returns so many samples of the highest loss, or all there are, the worst first; of equal ones the earlier first.

    Targets are counted; see `Predictions.without`.
    """
    order = _losses(predictions, info).sort(descending=True, stable=True).indices[:count]
    return _described(predictions, info, order, name_of)


def certain_mistakes(
    predictions: Predictions, info: DataInfo, count: int, *, name_of: Callable[[int], str]
) -> list[WorstSample]:
    """Returns so many samples of classes that are predicted wrong, those of the highest probability first; none of labels or numbers.

    Targets are counted; see `Predictions.without`.
    """
    if info.task != "classification":
        return []
    certainty, said = calibrated(predictions.outputs.double(), info).softmax(1).max(1)
    order = certainty.sort(descending=True, stable=True).indices
    return _described(predictions, info, order[(said != predictions.targets)[order]][:count], name_of)


def _described(
    predictions: Predictions, info: DataInfo, order: Tensor, name_of: Callable[[int], str]
) -> list[WorstSample]:
    some = Predictions(predictions.outputs[order], predictions.targets[order], predictions.indices[order])
    true, said = (_words_of(values, info) for values in (some.targets, _decided(some.outputs, info)))
    shares: list[float] | list[None] = [None] * len(order)
    if info.task == "classification":
        shares = calibrated(some.outputs.double(), info).softmax(1).amax(1).tolist()
    positions, losses = some.indices.tolist(), _losses(some, info).tolist()
    return [
        WorstSample(position, name_of(position), *rest)
        for position, *rest in zip(positions, true, said, shares, losses, strict=True)
    ]


def _losses(predictions: Predictions, info: DataInfo) -> Tensor:
    """Returns the loss of each sample, float64 (N,)."""
    outputs, targets = predictions.outputs.double(), predictions.targets
    if info.task == "classification":
        return cross_entropy(calibrated(outputs, info), targets, reduction="none")
    if info.task == "multilabel":
        return binary_cross_entropy_with_logits(outputs, targets.double(), reduction="none").mean(1)
    return (outputs - targets.double()).square().mean(1)


def _decided(outputs: Tensor, info: DataInfo) -> Tensor:
    decided = SCORES[info.task](info).decisions(outputs)
    return outputs if decided is None else decided


def _words_of(values: Tensor, info: DataInfo) -> list[str]:
    """Returns classes, labels or numbers in words, one text for each sample."""
    if info.task == "regression":
        return [", ".join(f"{value:.6g}" for value in row) for row in restore_targets(values, info).tolist()]
    names = info.class_names
    if info.task == "classification":
        return [names[label] for label in values.tolist()]
    rows = ((name for name, is_there in zip(names, row, strict=True) if is_there) for row in values.tolist())
    return [", ".join(row) or "no label" for row in rows]


def pictures_of(split: Split, positions: Sequence[int], info: DataInfo) -> dict[int, Tensor]:
    """Returns the pictures at these positions as the network gets them, but not normalized: (H, W, 3) or (H, W), 0..1."""
    return {
        position: picture_of(image, info)
        for batch in samples_at(split, positions)
        for position, image in zip(batch.indices.tolist(), batch.inputs, strict=True)
    }


def samples_at(split: Split, positions: Sequence[int]) -> Iterator[Batch]:
    """Yields the samples at these positions, those of a batch together; nothing is read after the last."""
    left = set(positions)
    for batch in split.batches():
        if not left:
            return
        places = [place for place, position in enumerate(batch.indices.tolist()) if position in left]
        if places:
            yield Batch(batch.inputs[places], batch.targets[places], batch.indices[places])
        left.difference_update(batch.indices.tolist())


def picture_of(image: Tensor, info: DataInfo) -> Tensor:
    """Returns an input (C, H, W) as a picture: without the normalization, (H, W, 3) or (H, W), 0..1, on the CPU."""
    image = image.float().cpu()
    if info.mean is not None and info.std is not None:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (info.mean, info.std))
        image = image * std + mean
    image = (image / image.max().clamp(min=1)).clamp(0, 1)
    return image.permute(1, 2, 0) if len(image) == 3 else image.mean(0)  # other channels than colours are no picture


def save_worst_picture(path: Path, samples: Sequence[WorstSample], pictures: Mapping[int, Tensor]) -> None:
    """Write the pictures as a sheet, each below its name, what it is and the prediction; the ending of `path` picks the format."""
    from matplotlib.figure import Figure  # takes half a second to import

    num_columns = max(1, math.ceil(math.sqrt(len(samples))))
    num_rows = max(1, math.ceil(len(samples) / num_columns))
    figure = Figure(figsize=(1.7 * num_columns, 2.15 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
    for axes in grid:
        axes.axis("off")
    for axes, sample in zip(grid, samples, strict=False):  # the last row may have room
        axes.imshow(pictures[sample.position].numpy(), cmap="gray", vmin=0, vmax=1)
        true, said = (words[:LONGEST_NAME] for words in (sample.true, sample.predicted))
        share = "" if sample.probability is None else f" {sample.probability:.0%}"
        title = f"{PurePath(sample.name).name[-LONGEST_NAME:]}\nis {true}\nsaid {said}{share}"
        axes.set_title(title, fontsize=7, parse_math=False)
    save_figure(path, figure)
