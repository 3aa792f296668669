"""torch's sparse kernels as a way to run a masked network: its emptiest linear layers and 1x1 convolutions as CSR matrices.

Convolutions with larger kernels stay dense: they would have to be unfolded first, and that costs more than zeros save
(docs/commands/bench.md has the measurements).
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dlkit.core.benchmark.unavailable import EngineUnavailable
from dlkit.core.models import copy_network, has_int8_layers

LEAST_ZEROS = 0.8  # of a weight: below this the indices cost more time than the zeros save


def start_sparse(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network with CSR weights where most of them are zeros. Raises EngineUnavailable where none are, and for int8."""
    if has_int8_layers(network):
        raise EngineUnavailable("sparse", "torch has no sparse kernels for int8")
    with torch.inference_mode(mode=False), torch.no_grad():
        copied = copy_network(network)
        names = [name for name, module in copied.named_modules() if _is_worth_it(module)]
        for name in names:
            copied.set_submodule(name, _CsrLayer(copied.get_submodule(name)))
    if not names:
        raise EngineUnavailable(
            "sparse",
            f"no linear layer or 1x1 convolution on its own has at least {LEAST_ZEROS:.0%} zeros; `dlkit prune` makes them",
        )
    return copied


def has_sparse_layers(network: nn.Module) -> bool:
    """Whether any layer is worth it."""
    return any(_is_worth_it(module) for module in network.modules())


def _is_worth_it(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        is_pointwise = set(module.kernel_size) | set(module.stride) == {1} and module.groups == 1
        if not is_pointwise or any(module.padding if isinstance(module.padding, tuple) else (1,)):
            return False
    elif type(module) is not nn.Linear:
        return False
    return float((module.weight == 0).double().mean()) >= LEAST_ZEROS


class _CsrLayer(nn.Module):
    """A linear layer or a 1x1 convolution whose weight is a CSR matrix (outputs, inputs)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        self.is_convolution = isinstance(layer, nn.Conv2d)
        self.bias = layer.bias
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR tensors a beta
            csr = layer.weight.detach().flatten(1).to_sparse_csr()
            indices = csr.crow_indices().int(), csr.col_indices().int()  # in 32 bits they are faster by half
            self.weight = torch.sparse_csr_tensor(*indices, csr.values(), csr.shape, check_invariants=True)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs), or (N, C, H, W) to (N, outputs, H, W)."""
        columns = x.movedim(1, 0) if self.is_convolution else x.movedim(-1, 0)
        y = self.weight @ columns.reshape(len(columns), -1)
        y = y if self.bias is None else y + self.bias.unsqueeze(1)
        y = y.view(-1, *columns.shape[1:])
        return y.movedim(0, 1 if self.is_convolution else -1)
