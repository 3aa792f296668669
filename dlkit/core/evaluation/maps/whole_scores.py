"""Scores of maps over pictures at their own sizes, under windows of the network's size."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dlkit.core.data import Subset, part_mask
from dlkit.core.evaluation.maps.prediction import MapPredictor
from dlkit.core.evaluation.maps.scores import counted
from dlkit.core.scoring import class_areas, pixel_counts
from dlkit.events import Emit, Evaluating, Throttle, ignore


def count_whole_maps(predictor: MapPredictor, subset: Subset, emit: Emit = ignore) -> tuple[Tensor, Tensor]:
    """Returns the counts of all pixels of a subset, int64 (C, C) with true classes as rows, each picture at its own size, and the areas of
    the classes of each picture (N, 3, C).

    Raises DataError for a picture that cannot be read.
    """
    info, throttle, count = predictor.info, Throttle(), len(subset.rows)
    masks: list[Tensor] = []
    areas: list[Tensor] = []

    def pictures() -> Iterator[Tensor]:
        for position in range(count):
            picture, mask = part_mask(subset.raw(position))
            masks.append(mask.long())
            yield picture

    total = torch.zeros(info.num_outputs, info.num_outputs, dtype=torch.int64)
    for done, found in enumerate(predictor.maps(pictures()), 1):
        pair = found[None].long(), masks.pop(0)[None]
        total += pixel_counts(*pair, info.num_outputs)
        areas.append(class_areas(*pair, info.num_outputs))
        if throttle.is_due():
            emit(Evaluating(subset.name, done, count))
    return counted(total, subset.name, emit), torch.cat(areas)
