"""Which layers lose most by being int8: each one alone is rounded, and the outputs are compared with those in float.

Measured is a simulation in float on the calibrated network: of one layer the weights, inputs and outputs are rounded to the
codes that its int8 kernel would use, and everything else is left alone. So one calibration serves all layers, and each costs
one pass over a few batches. What comes between layers (sums, products, pooling) counts with the layer that reads it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule

from dlkit.events import Emit, Throttle, Working, ignore
from dlkit.quantize.graph import (
    Observed,
    Product,
    called_module,
    graph_facts,
    observer_before,
    observer_of,
    round_to_codes,
    without_observers,
)
from dlkit.quantize.observe import WeightRounding, build_weight_rounding
from dlkit.quantize.ptq.fidelity import Fidelity, fidelity_of, outputs_of
from dlkit.quantize.recipe import Recipe
from dlkit.tasks import TaskName


@dataclass(frozen=True)
class LayerSensitivity:
    """How close the outputs stay when this module of the float network is the only one that is int8."""

    name: str
    fidelity: Fidelity


@dataclass(frozen=True)
class _Rounding:
    """What rounding one product of the graph takes: observers of its input and output, None where there is no rounding."""

    name: str
    before: Observed | None
    after: Observed | None


def rank_layers(
    prepared: GraphModule,
    recipe: Recipe,
    batches: Sequence[Tensor],
    *,
    task: TaskName = "classification",
    emit: Emit = ignore,
) -> list[LayerSensitivity]:
    """Layers with weights that the recipe makes int8, the one that hurts most first.

    `prepared` is calibrated and stays as it is. Layers that are taken apart or called more than once count as one,
    by the name in the float network that `keep_float` takes.
    """
    plain = without_observers(prepared)
    reference = outputs_of(plain, batches)
    groups = _rounded_layers(prepared)
    found: list[LayerSensitivity] = []
    throttle = Throttle()
    for name, layers in groups.items():
        with _rounded(plain, layers, build_weight_rounding(recipe)):
            outputs = outputs_of(plain, batches)
        found.append(LayerSensitivity(name, fidelity_of(reference, outputs, task=task)))
        if throttle.is_due() or len(found) == len(groups):
            emit(Working("ranking layers", len(found), len(groups)))
    return sorted(found, key=lambda layer: -layer.fidelity.error)


def _rounded_layers(prepared: GraphModule) -> dict[str, list[_Rounding]]:
    """What to round together, by the name in the float network, in the order of the graph."""
    groups: dict[str, list[_Rounding]] = {}
    for node in prepared.graph.nodes:
        if "int8" in node.meta and isinstance(called_module(prepared, node), Product):
            before = observer_before(prepared, node.args[0])
            rounding = _Rounding(str(node.target), before, observer_of(prepared, node))
            groups.setdefault(graph_facts(prepared).float_name(str(node.target)), []).append(rounding)
    return groups


@contextmanager
def _rounded(plain: GraphModule, layers: Sequence[_Rounding], rounding: WeightRounding) -> Iterator[None]:
    """Round the weights, inputs and outputs of these products for a while."""
    hooks: list[Any] = []
    products = [(each, plain.get_submodule(each.name)) for each in layers]
    try:
        for each, product in products:
            assert isinstance(product, Product)
            product.rounding = rounding
            if each.before is not None:
                hooks.append(product.register_forward_pre_hook(_RoundInput(each.before)))
            if each.after is not None:
                hooks.append(product.register_forward_hook(_RoundOutput(each.after)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for _, product in products:
            product.rounding = None  # type: ignore[assignment]


class _RoundInput:
    """A hook that rounds the input of a layer."""

    def __init__(self, observed: Observed) -> None:
        self._observer = observed.observer

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (round_to_codes(inputs[0], self._observer), *inputs[1:])


class _RoundOutput:
    """A hook that rounds the output of a layer."""

    def __init__(self, observed: Observed) -> None:
        self._observer = observed.observer

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return round_to_codes(output, self._observer)
