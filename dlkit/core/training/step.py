"""One optimizer step over a window of micro-batches.

The order is the one that mixed precision needs: forward under autocast, scaled backward, unscale, clip, step, update of the
scale, moving average. The gradient is that of the one big batch: each micro-batch's mean loss is weighted by its share of
the window, however uneven, so a short last window or a short last batch needs no special case.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dlkit.core.data.contract import Batch
from dlkit.core.training.gradients import clip_gradients, scale_gradients
from dlkit.core.training.learner import Learner
from dlkit.errors import Diverged

MAX_SKIPS = 10


@dataclass(frozen=True)
class StepResult:
    """What one window did: its mean loss (on the device), the learning rate of each group, and whether weights moved."""

    loss: Tensor
    lrs: list[float]
    grad_norm: Tensor | None
    is_applied: bool


def train_step(learner: Learner, window: Iterable[Batch]) -> StepResult:
    """Run forward and backward over a window and update the weights once.

    Raises Diverged before the update when the loss is not finite, unless the config skips such windows.
    """
    position = learner.position
    lrs = learner.rates.set(learner.optimizer, position.step)
    loss_sum, weight_sum = _accumulate(learner, window)
    loss = (loss_sum / weight_sum).detach()
    # weights must not move on a loss that is not finite, so this one look at the device per update is worth its wait
    if not torch.isfinite(loss):
        _skip_or_raise(learner, float(loss), lrs)
        return StepResult(loss, lrs, None, is_applied=False)
    learner.num_skipped = 0
    grad_norm, is_applied = _update(learner)
    if is_applied:
        position.step += 1
        learner.rates.after_step()
        if learner.ema:
            learner.ema.update(learner.model)
    return StepResult(loss, lrs, grad_norm, is_applied)


def _accumulate(learner: Learner, window: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Gradients of the window's mean loss; the weighted sum of the losses and the sum of the weights."""
    scoring, device = learner.scoring, learner.scoring.precision.device
    loss_sum = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    weight_sum: Tensor | float = 0.0
    reference: Tensor | float = 0.0
    for batch in window:
        inputs = scoring.arrange(batch.inputs)
        with scoring.precision.autocast():
            outputs = learner.model(inputs)
            loss, weight = scoring.loss(outputs, batch.targets)
        # the window's weight is not known before its end: scale by a guess now, by the rest below
        reference = reference or weight * learner.accumulate
        scaled = loss if learner.accumulate == 1 else loss * (weight / reference)
        learner.scaler.scale(scaled).backward()  # type: ignore[no-untyped-call]
        loss_sum += loss.detach() * weight
        weight_sum = weight_sum + weight
        learner.meter.add(outputs, batch.targets, loss, weight)
        learner.position.batch += 1
        learner.position.samples += len(batch.inputs)
    if learner.accumulate > 1:
        scale_gradients(learner.parameters, reference / weight_sum)
    return loss_sum, torch.as_tensor(weight_sum, dtype=loss_sum.dtype, device=device)


def _update(learner: Learner) -> tuple[Tensor | None, bool]:
    """Unscale, clip, step; the gradient norm where clipping measured it, and whether the scaler let the step through."""
    scaler = learner.scaler
    scaler.unscale_(learner.optimizer)
    grad_norm = clip_gradients(learner.parameters, learner.clip)
    scale_before = scaler.get_scale()
    scaler.step(learner.optimizer)
    scaler.update()
    learner.optimizer.zero_grad(set_to_none=True)
    return grad_norm, scaler.get_scale() >= scale_before


def _skip_or_raise(learner: Learner, loss: float, lrs: list[float]) -> None:
    learner.optimizer.zero_grad(set_to_none=True)
    learner.num_skipped += 1
    place = f"epoch {learner.position.epoch + 1}, step {learner.position.step}, learning rate {max(lrs):.3g}"
    if learner.on_nan == "stop":
        raise Diverged(
            f"the loss is {loss} at {place}; no weight was changed by it. Try a lower optimizer.lr, train.clip, or a warm-up"
        )
    if learner.num_skipped > MAX_SKIPS:
        raise Diverged(
            f"the loss is {loss} at {place}, the {learner.num_skipped}th time in a row; train.on_nan: skip gives up here"
        )
