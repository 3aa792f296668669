"""Outputs of a model over a split, gathered on the CPU."""

from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn

from dlkit.core.data import Split
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.evaluate import announced, without_gradients
from dlkit.core.models import eval_mode
from dlkit.core.scoring import Scoring
from dlkit.events import Emit, ignore


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


def predict_split(
    model: nn.Module,
    split: Split,
    scoring: Scoring,
    *,
    use_tta: bool = False,
    world: World = ALONE,
    emit: Emit = ignore,
) -> Predictions:
    """Outputs for every sample once, in order; of several processes, each gets all.

    With `use_tta` the mean of the softmax over the image and its mirror image, as logarithm.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with eval_mode(model), without_gradients(world):
        for batch in announced(split, None, world, emit):
            with scoring.precision.autocast():
                inputs = scoring.arrange(batch.inputs)
                outputs = _mirrored(model, inputs) if use_tta and inputs.ndim == 4 else model(inputs)
            if batch.is_counted:
                parts.append((outputs.float().cpu(), batch.targets.cpu(), batch.indices))
    turns = zip_longest(*world.gather_values(parts))
    columns = zip(*(part for turn in turns for part in turn if part is not None), strict=True)
    outputs, targets, indices = (torch.cat(column) for column in columns)
    return Predictions(outputs, targets, indices)


def _mirrored(model: nn.Module, inputs: Tensor) -> Tensor:
    both = model(inputs).softmax(1) + model(inputs.flip(-1)).softmax(1)
    mean: Tensor = both / 2
    return mean.log()
