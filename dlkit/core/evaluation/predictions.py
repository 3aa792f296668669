"""Outputs of a model over a split, gathered on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from dlkit.core.data import Split
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.evaluate import announced, without_gradients
from dlkit.core.evaluation.gathering import Part, Predictions, gather_parts, part_of
from dlkit.core.models import eval_mode
from dlkit.core.out_of_memory import is_out_of_memory
from dlkit.core.scoring import Scoring
from dlkit.errors import DataError, DlkitError, first_line
from dlkit.events import Emit, ignore
from dlkit.shapes import size_text


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

    With `use_tta` logits of the mean of the probabilities over the image and its mirror image. Raises DataError for samples that the
    network does not run on.
    """
    parts: list[Part] = []
    with eval_mode(model), without_gradients(world):
        for batch in announced(split, None, world, emit):
            with scoring.precision.autocast(), _explained(batch.inputs, world):
                inputs = scoring.arrange(batch.inputs)
                outputs = _mirrored_outputs(model, inputs, scoring) if use_tta and inputs.ndim == 4 else model(inputs)
            if batch.is_counted:
                parts.append(part_of(outputs, batch))
    return gather_parts(parts, world)


@contextmanager
def _explained(inputs: Tensor, world: World) -> Iterator[None]:
    """Name the size of samples where a network fails on them: one of linear layers takes pictures of one size alone."""
    try:
        yield
    except DlkitError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if is_out_of_memory(error) or world.size > 1:  # there, others may have failed
            raise
        size = size_text(inputs.shape[1:])
        raise DataError(f"the network does not run on samples of {size}: {first_line(error, 200)}") from error


def _mirrored_outputs(model: nn.Module, inputs: Tensor, scoring: Scoring) -> Tensor:
    """Returns logits of the mean of the probabilities over images and their mirror images."""
    own, mirrored = (scoring.scores.probabilities(model(images)) for images in (inputs, inputs.flip(-1)))
    assert own is not None and mirrored is not None
    return scoring.scores.logits((own + mirrored) / 2)
