"""Networks without memory: on the meta device a tensor has a shape and no data.

A model file can be compared with the network that it names, and shapes can be followed, before anything is allocated.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlkit.core.models.copying import computed_tensors
from dlkit.core.models.eval_mode import eval_mode

_ALLOCATING = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.empty_strided}
)


# what fills a tensor that has no memory does nothing, but torch loads its compiler for it, which takes two seconds
_FILLING = frozenset(
    (Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_, Tensor.log_normal_, Tensor.exponential_, Tensor.random_)
)


class AllocateNothing(TorchFunctionMode):
    """While this is entered, new parameters and buffers lie on the meta device.

    Unlike `torch.device("meta")` it lets `torch.arange` and `torch.tensor` be: some builders compute layer widths with
    them.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _FILLING and args and args[0].is_meta:
            return args[0]
        kwargs = dict(kwargs or {})
        if func in _ALLOCATING:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def meta_copy(model: nn.Module) -> nn.Module:
    """Returns a copy whose parameters and buffers are on the meta device; the model's own tensors are neither copied nor
    changed.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    for tensor in computed_tensors(model):
        memo[id(tensor)] = tensor.detach().to("meta")
    return copy.deepcopy(model, memo)


def output_shape(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the output for one sample of this shape, without the batch. The model must lie on the meta device.

    Raises whatever the model raises for a shape that it cannot take.
    """
    with eval_mode(model), torch.no_grad():
        output: torch.Tensor = model(torch.empty(2, *input_shape, device="meta"))
    return tuple(output.shape[1:])
