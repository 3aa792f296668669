"""From a model to its replica: whole on every process, or cut over all of them."""

from dataclasses import dataclass

import torch
from torch import nn

from dlkit.config import Runtime
from dlkit.core.distributed.replicas import Replica, Replicated, Single
from dlkit.core.distributed.shards import Sharded, shard
from dlkit.core.distributed.world import World


@dataclass(frozen=True)
class Sharing:
    """Where and how a model is trained together."""

    world: World
    device: torch.device
    runtime: Runtime


def build_replica(model: nn.Module, average: nn.Module | None, sharing: Sharing) -> Replica:
    """The model as all processes of a world train it; its moving average is cut like the model.

    To be called before an optimizer is built: a model that is cut has other parameters.
    """
    is_trained = any(parameter.requires_grad for parameter in model.parameters())
    if sharing.world.is_alone or not is_trained:  # the optimizer tells what is wrong with the latter
        return Single(model)
    if not sharing.world.lockstep:
        return Replicated(model, sharing.device, find_unused=sharing.runtime.find_unused_parameters)
    for whole_model in (model, average):
        if whole_model is not None:
            shard(whole_model, sharing.world, sharing.device)
    return Sharded(model)
