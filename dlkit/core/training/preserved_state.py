"""Training that is undone: all that a learner holds is put back, bit for bit, however the block ends."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlkit.core.models import kept_modes
from dlkit.core.random_state import capture_random_state, restore_random_state
from dlkit.core.training.learner import Learner, Position


@contextmanager
def preserved_state(learner: Learner) -> Iterator[None]:
    """A learner to try things with: at step 0, without moving average, stopping at a loss that is not finite.

    At the end, also after an exception or Ctrl-C, these are what they were: parameters, gradients and buffers, the optimizer's
    state and groups, the loss scaler, python's, numpy's and torch's random state, training mode, and all that the learner counts.
    """
    attributes = dict(vars(learner))
    buffers = [(module, dict(module._buffers)) for module in learner.model.modules()]
    tensors = [(tensor, tensor.detach().clone()) for tensor in _tensors(learner.model)]
    gradients = [(parameter, parameter.grad) for parameter in learner.model.parameters()]
    optimizer = _copy_optimizer(learner.optimizer)
    scaler, random_state = copy.deepcopy(learner.scaler.state_dict()), capture_random_state()
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        learner.meter, learner.position = learner.scoring.new_meter(), Position()
        learner.ema, learner.on_nan, learner.num_skipped = None, "stop", 0
        with kept_modes(learner.model):
            yield
    finally:
        vars(learner).update(attributes)
        _restore_model(buffers, tensors)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        _restore_optimizer(learner.optimizer, optimizer)
        if scaler:
            learner.scaler.load_state_dict(scaler)
        restore_random_state(random_state)


def _tensors(model: nn.Module) -> list[Tensor]:
    # not the state dict: that leaves out buffers that are not saved with the model
    return [*model.parameters(), *model.buffers()]


def _restore_model(
    buffers: list[tuple[nn.Module, dict[str, Tensor | None]]], tensors: list[tuple[Tensor, Tensor]]
) -> None:
    for module, own in buffers:
        module._buffers.clear()
        module._buffers.update(own)
    with torch.no_grad():
        for tensor, kept in tensors:
            tensor.copy_(kept)


def _copy_optimizer(optimizer: Optimizer) -> tuple[dict[Any, Any], list[dict[str, Any]]]:
    """State by parameter, and the options of each group. `load_state_dict` would cast state to the parameters' type."""
    state = {parameter: copy.deepcopy(values) for parameter, values in optimizer.state.items()}
    groups = [
        {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    return state, groups


def _restore_optimizer(optimizer: Optimizer, kept: tuple[dict[Any, Any], list[dict[str, Any]]]) -> None:
    state, groups = kept
    optimizer.state.clear()
    optimizer.state.update(state)
    for group, options in zip(optimizer.param_groups, groups, strict=True):
        parameters = group["params"]
        group.clear()
        group.update({"params": parameters, **options})
