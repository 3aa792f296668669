"""The pictures whose maps a model is most wrong about: found while a split is counted, then looked at once more."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dlkit.core.data import IGNORED, Batch, DataInfo, Split
from dlkit.core.distributed import World
from dlkit.core.evaluation.worst import WorstSample, picture_of, samples_at
from dlkit.core.models import eval_mode
from dlkit.core.scoring import class_areas


class PictureScore(NamedTuple):
    """A picture by its position in the split: its mean cross-entropy, and the areas of its classes as `class_areas` has them, (3, C)."""

    position: int
    loss: float
    areas: Tensor


class WorstPictures:
    """So many pictures of the highest mean cross-entropy over their counted pixels, of those seen so far; of equal ones the earlier.

    Those without counted pixels are left out. Maps are not kept.
    """

    def __init__(self, count: int) -> None:
        self.count, self.rows = count, list[PictureScore]()

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Take in a batch and its logits (N, C, H, W)."""
        if not self.count:
            return
        least = self.rows[-1].loss if len(self.rows) == self.count else 0.0
        losses = _mean_losses(outputs, batch.targets)
        places = [place for place, loss in enumerate(losses.tolist()) if loss >= least]
        # of these alone, as the largest of channels takes its time
        areas = class_areas(outputs[places].argmax(1), batch.targets[places], outputs.shape[1]).cpu()
        found = zip(batch.indices[places].tolist(), losses[places].tolist(), areas, strict=True)
        self._take(PictureScore(position, loss, area.clone()) for position, loss, area in found)

    def read(self, world: World) -> list[PictureScore]:
        """Returns those of all processes, the worst first."""
        rows, self.rows = world.gather_values(self.rows), []
        self._take(row for part in rows for row in part)
        return self.rows

    def _take(self, rows: Iterable[PictureScore]) -> None:
        self.rows = sorted([*self.rows, *rows], key=lambda row: (-row.loss, row.position))[: self.count]


def _mean_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean cross-entropy of each picture, (N,); infinite where outputs are no numbers, below 0 where no pixel is counted."""
    losses = cross_entropy(outputs.float(), targets, ignore_index=IGNORED, reduction="none")
    dtype = torch.float32 if losses.device.type == "mps" else torch.float64
    num_counted = (targets != IGNORED).sum((1, 2))
    means = (losses.sum((1, 2), dtype=dtype) / num_counted).nan_to_num(nan=math.inf, posinf=math.inf)
    return means.where(num_counted > 0, -1)


def describe_pictures(
    scores: Sequence[PictureScore], info: DataInfo, *, name_of: Callable[[int], str]
) -> list[WorstSample]:
    """Returns the worst pictures in words: the classes that are there, and those that are predicted, by their names."""
    names = info.classes or tuple(map(str, range(info.num_outputs)))
    found = []
    for position, loss, areas in scores:
        right, true, said = areas.double()
        is_there, is_said = (
            ", ".join(name for name, area in zip(names, row, strict=True) if area) for row in (true, said)
        )
        iou = (right / (true + said - right)).nanmean().item()
        found.append(WorstSample(position, name_of(position), is_there, is_said, None, loss, iou))
    return found


class SeenMap(NamedTuple):
    """A picture as `pictures_of` returns it, and the classes of its pixels: true ones, where IGNORED is not counted, and predicted ones;
    int64 (H, W).
    """

    picture: Tensor
    target: Tensor
    predicted: Tensor

    @property
    def error(self) -> Tensor:
        """0 where a pixel is right, 1 where it is wrong, IGNORED where it is not counted."""
        return (self.target != self.predicted).long().where(self.target != IGNORED, IGNORED)


def look_at_maps(network: nn.Module, split: Split, positions: Sequence[int], info: DataInfo) -> dict[int, SeenMap]:
    """Returns the pictures at these positions with their maps, for which the network runs on them once more."""
    found = {}
    with eval_mode(network), torch.inference_mode():
        for batch in samples_at(split, positions):
            predicted = network(batch.inputs).argmax(1).cpu()
            for place, position in enumerate(batch.indices.tolist()):
                picture = picture_of(batch.inputs[place], info)
                found[position] = SeenMap(picture, batch.targets[place].cpu(), predicted[place])
    return found
