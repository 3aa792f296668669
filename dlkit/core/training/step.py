"""One optimizer step over a window of micro-batches.

The order is the one that mixed precision needs: forward under autocast, scaled backward, unscale, clip, step, update of the
scale, moving average. The gradient is that of the one big batch: each micro-batch's mean loss is weighted by its share of
the window, however uneven, so a short last window or a short last batch needs no special case. The same holds across the
processes that share a window.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.config import Clip
from dlkit.core.data import Batch
from dlkit.core.distributed import idle, whole
from dlkit.core.models import main_output
from dlkit.core.stopping import StopRequest
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


@dataclass(frozen=True)
class _Sums:
    """What a window came to: the weighted sum of its losses, the sum of the weights, and samples.

    Its gradients are those of the losses over `reference`; None where they are right as they are. `positions` are where its
    samples stand in their split, batch by batch.
    """

    loss: Tensor
    weight: Tensor
    num_samples: int
    reference: Tensor | float | None
    positions: tuple[Tensor, ...]


def train_step(learner: Learner, window: Iterable[Batch], stop: StopRequest | None = None) -> StepResult:
    """Run forward and backward over a window and update the weights once.

    Several processes add up their sums and their wishes to stop in one exchange, beside that of the gradients. Raises
    Diverged before the update when the loss is not finite, unless the config skips such windows.
    """
    position = learner.position
    lrs = learner.rates.set(learner.optimizer, position.step)
    sums = _exchange(_accumulate(learner, window), learner, stop)
    position.samples += sums.num_samples
    # a window without a label that counts has no loss, and gradients of zero
    sums = replace(sums, weight=torch.where(sums.weight == 0, torch.ones_like(sums.weight), sums.weight))
    loss = (sums.loss / sums.weight).detach()
    # weights must not move on a loss that is not finite, so this one look at the device per update is worth its wait
    if not torch.isfinite(loss):
        _skip_or_raise(learner, float(loss), lrs, sums.positions)
        return StepResult(loss, lrs, None, is_applied=False)
    learner.num_skipped = 0
    if sums.reference is not None:
        # between processes, gradients come out as their mean
        scale_gradients(learner.parameters, sums.reference * learner.world.size / sums.weight)
    grad_norm, is_applied = _update(learner)
    if is_applied:
        position.step += 1
        learner.rates.after_step()
        if learner.ema:
            learner.ema.update(learner.model)
    return StepResult(loss, lrs, grad_norm, is_applied)


def _accumulate(learner: Learner, window: Iterable[Batch]) -> _Sums:
    """Add up the gradients of a window."""
    scoring, device, is_alone = learner.scoring, learner.scoring.precision.device, learner.world.is_alone
    loss_sum = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    weight_sum: Tensor | float = 0.0
    # the window's weight is not known before its end: scale by a guess now, by the rest later
    reference: Tensor | float | None = None if is_alone else float(learner.window_weight)
    num_samples, positions = 0, []
    for batch, is_last in _with_last(window):
        with _turn(learner, batch, is_last=is_last):
            with scoring.precision.autocast():
                inputs = scoring.arrange(batch.inputs)
                outputs = learner.replica.forward(inputs)
                loss, weight = scoring.loss(outputs, batch.targets)
                outputs = main_output(outputs)
                if learner.distillation is not None:
                    away = learner.distillation.distances(outputs, inputs)
                    loss = learner.distillation.mix(loss, scoring.loss.mean_of(away, batch.targets))
            weight = weight if batch.is_counted else weight * 0
            if reference is None and learner.accumulate > 1:
                reference = (weight if float(weight) else float(len(batch.inputs))) * learner.accumulate
            scaled = loss if reference is None else loss * (weight / reference)
            learner.scaler.scale(scaled).backward()  # type: ignore[no-untyped-call]
        learner.position.batch += 1
        if batch.is_counted:
            loss_sum += loss.detach() * weight
            weight_sum = weight_sum + weight
            learner.meter.add(outputs, batch.targets, loss, weight)
            num_samples += len(batch.inputs)
            positions.append(batch.indices)
    weight = torch.as_tensor(weight_sum, dtype=loss_sum.dtype, device=device)
    return _Sums(loss_sum, weight, num_samples, reference, tuple(positions))


def _with_last(window: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Yields the batches, each with whether it is the last."""
    batches = iter(window)
    batch = next(batches)
    for following in batches:
        yield batch, False
        batch = following
    yield batch, True


@contextmanager
def _turn(learner: Learner, batch: Batch, *, is_last: bool) -> Iterator[None]:
    with learner.replica.micro_batch(is_last=is_last), nullcontext() if batch.is_counted else idle(learner.model):
        yield


def _exchange(sums: _Sums, learner: Learner, stop: StopRequest | None) -> _Sums:
    """Returns the sums over all processes; what they vote for holds from here on."""
    if learner.world.is_alone:
        return sums
    votes = stop.votes() if stop else []
    own = torch.stack([sums.loss, sums.weight]), sums.loss.new_tensor([sums.num_samples, *votes])
    total = learner.world.sum(torch.cat(own))
    num_samples, *counts = total[2:].tolist()
    if stop:
        stop.settle(counts)
    return replace(sums, loss=total[0], weight=total[1], num_samples=int(num_samples))


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


def _skip_or_raise(learner: Learner, loss: float, lrs: list[float], positions: Sequence[Tensor]) -> None:
    learner.num_skipped += 1
    place = f"epoch {learner.position.epoch + 1}, step {learner.position.step}, learning rate {max(lrs):.3g}"
    if learner.on_nan == "stop":
        raise Diverged(
            f"the loss is {loss} at {place}; no weight was changed by it. Try a lower optimizer.lr, train.clip, or a warm-up",
            _facts(learner, loss, lrs, positions),
        )
    if learner.num_skipped > MAX_SKIPS:
        raise Diverged(
            f"the loss is {loss} at {place}, the {learner.num_skipped}th time in a row; train.on_nan: skip gives up here",
            _facts(learner, loss, lrs, positions),
        )
    learner.optimizer.zero_grad(set_to_none=True)


def _facts(learner: Learner, loss: float, lrs: list[float], positions: Sequence[Tensor]) -> dict[str, Any]:
    """What is known of a step whose loss is not finite; all processes must ask together."""
    gradients = [parameter.grad for parameter in learner.parameters if parameter.grad is not None]
    norm = whole(nn.utils.get_total_norm(gradients)) / learner.scaler.get_scale()
    own = [position for batch in positions for position in batch.tolist()]
    return {
        "epoch": learner.position.epoch + 1,
        "step": learner.position.step,
        "lr": lrs,
        "loss": loss,
        "grad_norm": float(norm),
        "positions": [position for part in learner.world.gather_values(own) for position in part],
        "num_batches": len(positions),
    }


def scale_gradients(parameters: Sequence[nn.Parameter], factor: float | Tensor) -> None:
    """Multiply all gradients by a factor; nothing happens for exactly 1."""
    if not isinstance(factor, Tensor) and factor == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if isinstance(factor, Tensor):
        factor = factor.to(gradients[0].dtype)
    torch._foreach_mul_(gradients, factor)


def clip_gradients(parameters: Sequence[nn.Parameter], clip: Clip | None) -> Tensor | None:
    """Clip by total norm or by value, in place; the norm before clipping, or None when it was not needed."""
    if clip is None:
        return None
    if clip.value is not None:
        nn.utils.clip_grad_value_(parameters, clip.value)
        return None
    assert clip.norm is not None
    norm: Tensor = whole(nn.utils.clip_grad_norm_(parameters, clip.norm, clip.norm_type))
    return norm
