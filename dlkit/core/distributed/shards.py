"""Models that are spread over processes, each holding a part of all weights (torch's FSDP2, `fully_shard`).

Checkpoints and model files hold whole tensors, the same as without: they are gathered to be written and cut to be read.
torch's part for it takes a second to import, so it is imported where it is needed, and cut tensors are known by what they can.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.distributed.world import World

# below this many numbers, a part of its own is not worth its exchange
LEAST_NUMBERS = 100_000


class Sharded:
    """A model whose weights are gathered part by part for each forward and backward pass."""

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model

    @property
    def forward(self) -> Callable[[Tensor], Any]:
        """The model's own, which gathers."""
        forward: Callable[[Tensor], Any] = self._model
        return forward

    @contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        """Gradients stay whole and unshared until the last one of a window."""
        self._model.set_requires_gradient_sync(is_last)
        yield


def shard(model: nn.Module, world: World, device: torch.device) -> None:
    """Cut the weights of a model over all processes, in place, block by block; each keeps its part on the device."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world.size,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    # torch would leave the outermost weights whole after a forward pass, also where no backward pass follows
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The smallest modules that hold enough numbers to be gathered by themselves, inner ones first."""
    found: list[nn.Module] = []
    for module in model.children():
        inner = _blocks(module)
        found += inner
        rest = sum(parameter.numel() for parameter in module.parameters())
        rest -= sum(parameter.numel() for block in inner for parameter in block.parameters())
        if rest >= LEAST_NUMBERS and not isinstance(module, nn.ModuleList | nn.ModuleDict):
            found.append(module)
    return found


def is_cut(value: Any) -> bool:
    """Whether this is a tensor of which each process holds a part."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def whole(value: Any) -> Any:
    """A copy of a nest of mappings and lists with every cut tensor whole; all processes must ask for it together."""
    if is_cut(value):
        return value.full_tensor()
    if isinstance(value, dict):
        return type(value)((key, whole(item)) for key, item in value.items())
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value


def cut_like(value: Any, pattern: Tensor) -> Any:
    """A whole tensor cut as another is, where that one is cut."""
    if not is_cut(pattern) or not isinstance(value, Tensor) or is_cut(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    cut: Any = pattern
    return distribute_tensor(value.to(cut.device), cut.device_mesh, cut.placements, src_data_rank=None)


def load_whole(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of whole tensors into a model, cut or not. Raises RuntimeError where names or shapes differ."""
    own = model.state_dict()
    model.load_state_dict({name: cut_like(value, own.get(name, value)) for name, value in state.items()}, strict=True)


def cut_optimizer_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state with tensors of the shape of their parameter cut as the parameter is."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    cut = {
        index: {
            name: cut_like(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": cut}


def local_part(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that is cut, or the tensor."""
    part: Any = tensor
    return part.to_local() if is_cut(tensor) else tensor
