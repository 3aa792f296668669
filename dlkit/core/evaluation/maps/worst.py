"""The pictures whose maps a model is most wrong about: found while a split is counted, then looked at once more."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dlkit.core.data import IGNORED, Batch, DataInfo, Split
from dlkit.core.distributed import World
from dlkit.core.evaluation.worst import WorstSample, picture_of, samples_at
from dlkit.core.models import eval_mode
from dlkit.core.scoring import class_areas, iou_of


@dataclass(frozen=True)
class PictureScores:
    """Pictures with counted pixels, in the order of the split: their positions (N,), the mean cross-entropy of each, float64 (N,), and
    the areas of its classes as `class_areas` has them, int32 (N, 3, C).
    """

    positions: Tensor
    losses: Tensor
    areas: Tensor

    def worst(self, count: int) -> "PictureScores":
        """Returns so many of the highest loss, the worst first; of equal ones the earlier first."""
        return self.at(self.losses.sort(descending=True, stable=True).indices[:count])

    def at(self, rows: Tensor) -> "PictureScores":
        """Returns those at these rows."""
        return PictureScores(self.positions[rows], self.losses[rows], self.areas[rows])


class PictureMeter:
    """The scores of single pictures, batch by batch; maps are not kept."""

    def __init__(self) -> None:
        self._parts: list[PictureScores] = []

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Take in a batch and its logits (N, C, H, W)."""
        areas = class_areas(outputs.argmax(1), batch.targets, outputs.shape[1]).cpu().int()
        part = PictureScores(batch.indices, _mean_losses(outputs, batch.targets).cpu().double(), areas)
        self._parts.append(part.at(areas[:, 1].any(1)))

    def read(self, world: World) -> PictureScores:
        """Returns those of all processes."""
        parts = [part for parts in world.gather_values(self._parts) for part in parts]
        columns = ([getattr(part, field.name) for part in parts] for field in fields(PictureScores))
        whole = PictureScores(*map(torch.cat, columns))
        return whole.at(whole.positions.argsort())


def _mean_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean cross-entropy of each picture, (N,); infinite where outputs are no numbers."""
    losses = cross_entropy(outputs.float(), targets, ignore_index=IGNORED, reduction="none")
    dtype = torch.float32 if losses.device.type == "mps" else torch.float64
    return (losses.sum((1, 2), dtype=dtype) / (targets != IGNORED).sum((1, 2))).nan_to_num(
        nan=math.inf, posinf=math.inf
    )


def describe_pictures(scores: PictureScores, info: DataInfo, *, name_of: Callable[[int], str]) -> list[WorstSample]:
    """Returns pictures in words: the classes that are there, and those that are predicted, by their names."""
    names = info.class_names
    found = []
    for position, loss, areas in zip(scores.positions.tolist(), scores.losses.tolist(), scores.areas, strict=True):
        _, true, said = areas
        is_there, is_said = (
            ", ".join(name for name, area in zip(names, row, strict=True) if area) for row in (true, said)
        )
        iou = iou_of(areas).nanmean().item()
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
