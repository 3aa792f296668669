"""Gradients between backward and update: rescaling a window, clipping."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlkit.config.schema import Clip
from dlkit.core.distributed.shards import whole


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
