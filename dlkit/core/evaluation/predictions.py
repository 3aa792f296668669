"""Outputs of a model over a split, gathered on the CPU."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlkit.core.data.contract import Split
from dlkit.core.evaluation.evaluate import REFRESH_S, Scoring
from dlkit.events import Evaluating, Report, ignore


@dataclass(frozen=True)
class Predictions:
    """Raw outputs (N, num_outputs) as float32, targets, and positions in the split."""

    outputs: Tensor
    targets: Tensor
    indices: Tensor


def predict_split(
    model: nn.Module, split: Split, scoring: Scoring, *, use_tta: bool = False, report: Report = ignore
) -> Predictions:
    """Outputs for every sample once. With `use_tta` the mean of the softmax over the image and its mirror image, as logarithm."""
    was_training = model.training
    model.eval()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    reported = time.monotonic()
    try:
        with torch.inference_mode():
            for batch in split.batches():
                with scoring.precision.autocast():
                    inputs = scoring.arrange(batch.inputs)
                    outputs = _mirrored(model, inputs) if use_tta and inputs.ndim == 4 else model(inputs)
                parts.append((outputs.float().cpu(), batch.targets.cpu(), batch.indices))
                if time.monotonic() - reported >= REFRESH_S:
                    reported = time.monotonic()
                    report(Evaluating(split.name, len(parts), split.num_batches))
    finally:
        model.train(was_training)
    outputs, targets, indices = (torch.cat(column) for column in zip(*parts, strict=True))
    return Predictions(outputs, targets, indices)


def _mirrored(model: nn.Module, inputs: Tensor) -> Tensor:
    both = model(inputs).softmax(1) + model(inputs.flip(-1)).softmax(1)
    mean: Tensor = both / 2
    return mean.log()
