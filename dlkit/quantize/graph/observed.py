"""Where a graph of steps is observed, and the same graph without observers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph.operations import called_module
from dlkit.quantize.graph.placement import label_of
from dlkit.quantize.graph.steps import Elementwise, Product
from dlkit.quantize.observe import EVERYTHING, ActivationRounding, Bounds, RangeObserver, clamped
from dlkit.quantize.sharing import copy_sharing_weights


@dataclass(frozen=True)
class Observed:
    """One observer, its call in the graph and the node of the value that it watches."""

    observer: RangeObserver | ActivationRounding
    call: Node
    source: Node

    @property
    def name(self) -> str:
        """What is observed, by the name of the module or function that makes it, without dots."""
        return label_of(self.source)


def observer_called(prepared: GraphModule, node: Node) -> Observed | None:
    """What a node observes by calling an observer; None for a node of another kind."""
    module = called_module(prepared, node)
    is_observer = isinstance(module, RangeObserver | ActivationRounding)
    return Observed(module, node, node.all_input_nodes[0]) if is_observer else None  # type: ignore[arg-type]


def observed_tensors(prepared: GraphModule) -> list[Observed]:
    """All that is observed in a prepared network, in the order of the graph."""
    found = (observer_called(prepared, node) for node in prepared.graph.nodes)
    return [observed for observed in found if observed is not None]


def observer_of(prepared: GraphModule, node: Node) -> Observed | None:
    """The observer that watches what a node makes."""
    found = (observer_called(prepared, user) for user in node.users)
    return next((observed for observed in found if observed is not None), None)


def observer_before(prepared: GraphModule, value: Node) -> Observed | None:
    """The observer that decides what the codes of a value mean, perhaps a few operations before it."""
    while (observed := observer_called(prepared, value)) is None:
        sources = [one for one in value.all_input_nodes if "int8" in one.meta or observer_called(prepared, one)]
        if not sources:
            return None
        value = sources[0]
    return observed


def without_observers(prepared: GraphModule) -> GraphModule:
    """A copy of a prepared network that observes nothing: the float network, with batch norms folded and layers fused.

    It shares the parameters of `prepared`. What observers clamp goes on being clamped, by modules that do nothing else.
    """
    plain = copy_sharing_weights(prepared)
    for observed in observed_tensors(plain):
        plain.set_submodule(str(observed.call.target), Clamp(observed.observer.bounds))
    for module in plain.modules():
        if isinstance(module, Product):
            module.inner = None
    return plain


class Clamp(nn.Module):
    """Stands where an observer was, and clamps what it clamped."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, values: Tensor) -> Tensor:
        """The values within the bounds."""
        return clamped(values, self.bounds)


def clip_to_activations(prepared: GraphModule) -> list[str]:
    """No codes for values that the next activation does not tell apart: observers clamp what they see and hand it on so.

    Hard swish makes 0 of everything below -3, ReLU6 the same of everything outside of 0 to 6. What lies in front of one may saturate
    there, and all 256 codes are left for the values that count. Changes `prepared`, but not what comes behind the activations.
    Returns the names of the tensors that were clipped.
    """
    clipped = []
    for observed in observed_tensors(prepared):
        steps = [called_module(prepared, user) for user in observed.call.users]
        bounds = [step.bounds if isinstance(step, Elementwise) else EVERYTHING for step in steps]
        together = min(low for low, _ in bounds), max(high for _, high in bounds)
        if together != EVERYTHING:
            observed.observer.bounds = together
            clipped.append(observed.name)
    return clipped


def round_to_codes(values: Tensor, observer: RangeObserver | ActivationRounding) -> Tensor:
    """Values rounded to the codes of an observer that has seen what it needs."""
    affine = observer.affine()
    return torch.fake_quantize_per_tensor_affine(values, affine.scale, affine.zero_point, affine.lowest, affine.highest)
