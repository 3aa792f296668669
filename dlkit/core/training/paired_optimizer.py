"""Two optimizers as one: the first for the matrices of hidden layers, as Muon needs it, the second for everything else.

Filters of convolutions are matrices too, one row to an output (Jordan et al.: Muon, 2024). Embeddings, the head, vectors and single
numbers are the second's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlkit.core.models import find_head

Group = dict[str, Any]
_WITH_MATRICES = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention, nn.RNNBase)


def hidden_matrices(network: nn.Module) -> set[str]:
    """Returns names of the weights that multiply: of linear layers, convolutions, attention and recurrent layers, but for the head."""
    head = find_head(network)
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        if isinstance(module, _WITH_MATRICES) and (head is None or module is not head[1])
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim >= 2
    }


class PairedOptimizer(Optimizer):
    """The first optimizer steps on matrices (rows, the other dimensions flattened), the second on the rest as it is.

    Groups and state are those of one optimizer, over the parameters themselves, so that schedules, clipping and checkpoints need not
    know; what the first keeps of a parameter has the shape of its matrix.
    """

    def __init__(
        self,
        matrices: Sequence[Group],
        others: Sequence[Group],
        build_first: Callable[[list[Group]], Optimizer],
        build_second: Callable[[list[Group]], Optimizer] | None,
    ) -> None:
        self.first = build_first([{**group, "params": list(map(_as_matrix, group["params"]))} for group in matrices])
        self.second = build_second(list(others)) if build_second and others else None
        seconds = self.second.param_groups if self.second else []
        pairs = zip(self.first.param_groups, matrices, strict=True)
        super().__init__([*({**flat, "params": group["params"]} for flat, group in pairs), *seconds], {})
        self._link()

    def _link(self) -> None:
        """Let the second work on the groups and the state of the pair."""
        if self.second is not None:
            self.second.param_groups = self.param_groups[len(self.first.param_groups) :]
            self.second.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._link()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure here
        """Step both."""
        pairs = list(self._lend())
        self.first.step()
        for parameter, flat in pairs:
            if flat.data_ptr() != parameter.data_ptr():
                parameter.copy_(flat.view(parameter.shape))
            if flat in self.first.state:
                self.state[parameter] = self.first.state[flat]
        if self.second is not None:
            self.second.step()

    def _lend(self) -> list[tuple[Tensor, Tensor]]:
        """Show the first the settings, weights, gradients and state of now; returns parameters and their matrices."""
        pairs = []
        for group, flats in zip(self.param_groups, self.first.param_groups, strict=False):
            flats.update({name: value for name, value in group.items() if name != "params"})
            for parameter, flat in zip(group["params"], flats["params"], strict=True):
                flat.data = parameter.detach().flatten(1)
                flat.grad = None if parameter.grad is None else parameter.grad.flatten(1)
                self.first.state.pop(flat, None)
                if parameter in self.state:
                    self.first.state[flat] = self.state[parameter]
                pairs.append((parameter, flat))
        return pairs


def _as_matrix(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().flatten(1))


def parts_of(optimizer: Optimizer) -> list[tuple[type[Optimizer], Mapping[str, Any], list[Tensor]]]:
    """Returns for each group the class that steps on it, the group, and its parameters in the shape in which that class sees them."""
    if not isinstance(optimizer, PairedOptimizer):
        return [(type(optimizer), group, group["params"]) for group in optimizer.param_groups]
    count = len(optimizer.first.param_groups)
    firsts = [
        (type(optimizer.first), group, list(map(_as_matrix, group["params"])))
        for group in optimizer.param_groups[:count]
    ]
    seconds = [(type(optimizer.second), group, group["params"]) for group in optimizer.param_groups[count:]]
    return [*firsts, *seconds]  # type: ignore[list-item]  # without a second there are no groups of it
