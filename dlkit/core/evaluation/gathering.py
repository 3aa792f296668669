"""Outputs of a model over a split, gathered on the CPU from all processes in the order of the samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from dlkit.core.data import Batch
from dlkit.core.distributed import World

Part = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Predictions:
    """Raw outputs (N, num_outputs) as float32, targets, and positions in the split."""

    outputs: Tensor
    targets: Tensor
    indices: Tensor

    def without(self, label: int | None) -> "Predictions":
        """Returns those of samples with another target than the label; all of them for None."""
        if label is None:
            return self
        kept = self.targets != label
        return Predictions(self.outputs[kept], self.targets[kept], self.indices[kept])


def part_of(outputs: Tensor, batch: Batch) -> Part:
    """Returns what is gathered of a batch."""
    return outputs.float().cpu(), batch.targets.cpu(), batch.indices


def gather_parts(parts: Sequence[Part], world: World) -> Predictions:
    """Returns the predictions of all processes, which took whole batches in turn; each process gets all."""
    turns = zip_longest(*world.gather_values(list(parts)))
    columns = zip(*(part for turn in turns for part in turn if part is not None), strict=True)
    outputs, targets, indices = (torch.cat(column) for column in columns)
    return Predictions(outputs, targets, indices)
