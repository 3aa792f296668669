"""The weights of a network that can be pruned, and how many of their entries are zero."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dlkit.errors import UsageError
from dlkit.prune.computed_weights import find_computed_weights, is_computed
from dlkit.prune.skipping import check_globs, is_skipped

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class PrunableWeight:
    """A parameter, its name in the state dict, and the layer that holds it."""

    name: str
    layer: str
    kind: str
    parameter: nn.Parameter


@dataclass(frozen=True)
class LayerSparsity:
    """A weight: how many of its entries are zero, and how many whole output channels (slices along dimension 0)."""

    name: str
    kind: str
    shape: tuple[int, ...]
    num_weights: int
    num_zero: int
    num_zero_channels: int

    @property
    def share(self) -> float:
        """The share of entries that are zero."""
        return self.num_zero / self.num_weights


def find_weights(network: nn.Module, skip: Sequence[str] = ()) -> list[PrunableWeight]:
    """Weights of convolutions, linear, recurrent and attention layers, in the network's order; a shared one once.

    Weights that are no parameters but computed are left out, as a mask would not hold there. `skip` are globs on the names of
    layers or parameters. Raises UsageError when a glob matches nothing, and when nothing is left.
    """
    found = list(_all_weights(network))
    if not found:
        if computed := find_computed_weights(network):
            layer, reason = next(iter(computed.items()))
            raise UsageError(f"nothing to prune: {layer or 'the network'}: {reason}; a mask would not hold there")
        raise UsageError("the network has nothing to prune: no convolution, linear, recurrent or attention layer")
    check_globs(skip, [name for weight in found for name in (weight.layer, weight.name)])
    kept = [weight for weight in found if not is_skipped(skip, weight.layer, weight.name)]
    if not kept:
        raise UsageError(f"nothing is left to prune: --skip {' '.join(skip)} leaves out every layer")
    return kept


def _all_weights(network: nn.Module) -> Iterator[PrunableWeight]:
    seen: set[int] = set()
    for layer, module in network.named_modules():
        for name in _weight_names(module):
            parameter = getattr(module, name)
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield PrunableWeight(f"{layer}.{name}" if layer else name, layer, type(module).__name__, parameter)


def _weight_names(module: nn.Module) -> list[str]:
    if isinstance(module, nn.modules.conv._ConvNd | nn.Linear | nn.Bilinear):
        return ["weight"] if "weight" in _parameters(module) else []
    if isinstance(module, _RECURRENT):
        return [name for name in _parameters(module) if name.startswith("weight_") and not _is_part(name, module)]
    if isinstance(module, nn.MultiheadAttention):
        return [name for name in _PROJECTIONS if name in _parameters(module)]
    return []


def _parameters(module: nn.Module) -> list[str]:
    return [name for name, parameter in module._parameters.items() if parameter is not None]


def _is_part(name: str, module: nn.Module) -> bool:
    """Whether a parameter, such as `weight_hh_l0_v`, is what another weight is computed from."""
    return is_computed(module, name.rpartition("_")[0])


def measure_sparsity(weights: Sequence[PrunableWeight]) -> list[LayerSparsity]:
    """Count the zeros of each weight; the rows are in the weights' order."""
    return [_measure(weight.name, weight.kind, weight.parameter.detach()) for weight in weights]


def _measure(name: str, kind: str, weight: Tensor) -> LayerSparsity:
    is_zero = weight == 0
    channels = is_zero.flatten(1).all(1)
    return LayerSparsity(name, kind, tuple(weight.shape), weight.numel(), int(is_zero.sum()), int(channels.sum()))


def total_sparsity(rows: Sequence[LayerSparsity]) -> float:
    """The share of zeros over all rows."""
    return sum(row.num_zero for row in rows) / max(1, sum(row.num_weights for row in rows))
