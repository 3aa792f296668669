"""Loss and accuracy of a model over a split: every sample once."""

import time
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from dlkit.core.data.contract import Split
from dlkit.core.training.losses import Loss
from dlkit.core.training.meters import Meter
from dlkit.core.training.precision import Precision
from dlkit.core.training.stopping import StopRequest
from dlkit.events import Evaluating, Report, ignore

REFRESH_S = 0.1


@dataclass(frozen=True)
class Scoring:
    """How outputs are computed and judged, apart from the model."""

    loss: Loss
    precision: Precision
    is_classification: bool
    channels_last: bool = False

    def new_meter(self) -> Meter:
        """An empty meter for these scores."""
        return Meter(self.precision.device, is_classification=self.is_classification)

    def arrange(self, inputs: Tensor) -> Tensor:
        """Inputs in the memory layout that the model was put in."""
        if self.channels_last and inputs.ndim == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs


def evaluate(
    model: nn.Module,
    split: Split,
    scoring: Scoring,
    *,
    most_batches: int | None = None,
    stop: StopRequest | None = None,
    report: Report = ignore,
) -> dict[str, float] | None:
    """Means over the split (or its first `most_batches` batches), keyed as `Meter.read` does; None when a stop was asked for.

    The model is put in evaluation mode, and back.
    """
    was_training = model.training
    model.eval()
    meter = scoring.new_meter()
    reported = time.monotonic()
    try:
        with torch.inference_mode():
            for index, batch in enumerate(islice(split.batches(), most_batches)):
                with scoring.precision.autocast():
                    outputs = model(scoring.arrange(batch.inputs))
                    loss, weight = scoring.loss(outputs, batch.targets)
                meter.add(outputs, batch.targets, loss, weight)
                if stop is not None and stop.is_due:
                    return None
                if time.monotonic() - reported >= REFRESH_S:
                    reported = time.monotonic()
                    report(Evaluating(split.name, index + 1, split.num_batches))
    finally:
        model.train(was_training)
    return meter.read()
