"""Batch norm over the batches of all processes, on any device.

torch's SyncBatchNorm is for GPUs only, and changes the type of the layers. Here a layer keeps its type, its names and its
evaluation mode; in training its mean and variance are those of the one big batch, so that several processes compute what
one would.
"""

from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum over processes; the gradient of a sum over processes is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def sync_batch_norms(model: nn.Module) -> int:
    """Let the model's batch norms work on all processes' batches together, in place; how many there are."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.is_idle = False  # type: ignore[assignment]
        norm.forward = MethodType(_forward_synced, norm)  # type: ignore[method-assign]
    return len(norms)


def is_synced(norm: nn.Module) -> bool:
    """Whether `sync_batch_norms` was here."""
    forward = vars(norm).get("forward")
    return isinstance(forward, MethodType) and forward.__func__ is _forward_synced


def _forward_synced(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    """Ioffe and Szegedy: Batch normalization, 2015, with the moments of all processes.

    Sums are taken in float32 at least. Raises ValueError for a single value per channel, as torch does.
    """
    if not norm.training and norm.running_mean is not None:
        return type(norm).forward(norm, inputs)
    axes = [0, *range(2, inputs.ndim)]
    values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    share = 0.0 if norm.is_idle else 1.0
    count = values.new_full((1,), share * inputs.numel() / inputs.shape[1])
    # deviations from a common value, so that the sum of squares loses nothing to a large mean
    anchor = (norm.running_mean if norm.running_mean is not None else values.new_zeros(inputs.shape[1])).to(
        values.dtype
    )
    deviations = values - _per_channel(anchor, inputs.ndim)
    sums = _Sum.apply(torch.cat([deviations.sum(axes) * share, deviations.square().sum(axes) * share, count]))
    num_values = sums[-1]
    if num_values <= 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {inputs.size()}")
    shift, square = (sums[:-1] / num_values).chunk(2)
    variance = (square - shift.square()).clamp(min=0)
    _track(norm, (anchor + shift).detach(), variance.detach() * (num_values / (num_values - 1)).detach())
    scale = torch.rsqrt(variance + norm.eps)
    normalized = (deviations - _per_channel(shift, inputs.ndim)) * _per_channel(scale, inputs.ndim)
    if norm.affine:
        normalized = normalized * _per_channel(norm.weight, inputs.ndim) + _per_channel(norm.bias, inputs.ndim)
    return normalized.to(inputs.dtype)


def _per_channel(values: Tensor, ndim: int) -> Tensor:
    return values.reshape(1, -1, *[1] * (ndim - 2))


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics, as torch does: the variance without bias, the momentum None for a plain mean."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked or 1)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), momentum)
