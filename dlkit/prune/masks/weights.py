"""The weights of a network that can be pruned, by the kinds of layers that hold them, and leaving some of them out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from dlkit.errors import UsageError
from dlkit.prune.skipping import check_globs, is_skipped

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class PrunableWeight:
    """A parameter by its name in the state dict, and the layer that holds it."""

    name: str
    layer: str
    kind: str
    parameter: nn.Parameter


def find_weights(network: nn.Module, skip: Sequence[str] = ()) -> list[PrunableWeight]:
    """Weights of convolutions, linear, recurrent and attention layers, in the network's order; a shared one once.

    `skip` are globs on the names of layers or parameters. Raises UsageError when a glob matches nothing, and when nothing is
    left.
    """
    found = list(_all_weights(network))
    if not found:
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
        return ["weight"]
    if isinstance(module, _RECURRENT):
        return [name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight_")]
    if isinstance(module, nn.MultiheadAttention):
        return [name for name in _PROJECTIONS if getattr(module, name) is not None]
    return []
