"""Outputs of a model over a split, gathered on the CPU."""

from torch import Tensor, nn

from dlkit.core.data import Split
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.evaluate import announced, without_gradients
from dlkit.core.evaluation.gathering import Part, Predictions, gather_parts, part_of
from dlkit.core.models import eval_mode
from dlkit.core.scoring import Scoring
from dlkit.events import Emit, ignore


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

    With `use_tta` logits of the mean of the probabilities over the image and its mirror image.
    """
    parts: list[Part] = []
    with eval_mode(model), without_gradients(world):
        for batch in announced(split, None, world, emit):
            with scoring.precision.autocast():
                inputs = scoring.arrange(batch.inputs)
                outputs = _mirrored(model, inputs, scoring) if use_tta and inputs.ndim == 4 else model(inputs)
            if batch.is_counted:
                parts.append(part_of(outputs, batch))
    return gather_parts(parts, world)


def _mirrored(model: nn.Module, inputs: Tensor, scoring: Scoring) -> Tensor:
    pair = [scoring.scores.probabilities(model(images)) for images in (inputs, inputs.flip(-1))]
    assert pair[0] is not None and pair[1] is not None
    return scoring.scores.logits((pair[0] + pair[1]) / 2)
