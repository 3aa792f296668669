"""Whether the disk has room for what a run keeps, looked at before it trains."""

import shutil
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from dlkit.core.training.learner import Learner
from dlkit.errors import OutOfResource

_USUAL_COPIES = 2  # of the weights, that an optimizer keeps


def check_disk_space(place: Path, learner: Learner) -> None:
    """Raise OutOfResource where two checkpoints, the one of before and the one being written, and the model file do not fit."""
    while not place.exists() and place != place.parent:
        place = place.parent
    model = sum(tensor.nbytes for tensor in learner.model.state_dict().values())
    trained = sum(parameter.nbytes for parameter in learner.parameters)
    checkpoint = model * (2 if learner.ema else 1) + trained * _num_copies(learner.optimizer)
    needed, free = 2 * checkpoint + model, shutil.disk_usage(place).free
    if free < needed:
        raise OutOfResource(
            f"{place}: {free / 2**20:,.0f} MiB are free on this disk, but checkpoints and model.pt take about "
            f"{needed / 2**20:,.0f} MiB; free some space, or choose another place with --out or runtime.out"
        )


def _num_copies(optimizer: Optimizer) -> int:
    """How many tensors of a parameter's size an optimizer keeps for it, seen on a small one."""
    probe = nn.Parameter(torch.zeros(2))
    probe.grad = torch.zeros(2)
    try:
        copied = type(optimizer)([{**optimizer.param_groups[0], "params": [probe]}])  # type: ignore[call-arg]  # of a subclass
        copied.step()
        return sum(value.numel() == 2 for value in copied.state[probe].values() if isinstance(value, torch.Tensor))
    except Exception:  # a class of the user's own that wants more
        return _USUAL_COPIES
