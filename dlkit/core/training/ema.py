"""An exponential moving average of weights and buffers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.distributed import local_part
from dlkit.core.models import copy_network


class EmaModel:
    """Keeps an averaged copy of a model in evaluation mode; `update` is called once per optimizer step.

    With warm-up the decay of update t (from 1) is min(decay, 1 - (1 + t) ** (-2/3)), after timm. Floating-point buffers, such
    as the running statistics of batch norm, are averaged like weights; others, such as counters, are copied.
    """

    def __init__(self, model: nn.Module, *, decay: float, warmup: bool = True, every: int = 1) -> None:
        self.model = copy_network(model).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.every = every
        self.num_steps = 0

    @property
    def num_updates(self) -> int:
        """Updates made so far."""
        return self.num_steps // self.every

    def decay_at(self, update: int) -> float:
        """Returns the decay of the update with this number, counted from 1."""
        return min(self.decay, 1 - (1 + update) ** (-2 / 3)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Count one optimizer step, and average the model in at every `every`-th."""
        self.num_steps += 1
        if self.num_steps % self.every:
            return
        share = 1 - self.decay_at(self.num_updates)
        averaged, current, copied = [], [], []
        for mean, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if mean.is_floating_point():
                averaged.append(mean)
                current.append(value.detach())
            else:
                copied.append((mean, value))
        torch._foreach_lerp_(averaged, current, share)
        for mean, value in copied:
            mean.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Returns the averaged tensors and the number of steps."""
        return {"state_dict": self.model.state_dict(), "num_steps": self.num_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.model.load_state_dict(state["state_dict"], strict=True)
        self.num_steps = int(state["num_steps"])


def _tensors(model: nn.Module) -> list[Tensor]:
    return [local_part(tensor) for tensor in (*model.parameters(), *model.buffers())]
