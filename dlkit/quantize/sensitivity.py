"""Which layers lose most by being int8: each one alone is rounded, and the outputs are compared with those in float.

Measured is a simulation in float on the calibrated network: of one layer the weights, inputs and outputs are rounded to the
codes that its int8 kernel would use, and everything else is left alone. So one calibration serves all layers, and each costs
one pass over a few batches. What comes between layers (sums, products, pooling) counts with the layer that reads it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.events import Emit, Throttle, Working, ignore
from dlkit.quantize.bias_correction import CORRECTED
from dlkit.quantize.fidelity import Fidelity, fidelity_of, outputs_of
from dlkit.quantize.fx import graph_facts, no_deprecations
from dlkit.quantize.observed import called_module, is_observer, layer_of, without_observers


@dataclass(frozen=True)
class LayerSensitivity:
    """How close the outputs stay when this module of the float network is the only one that is int8."""

    name: str
    fidelity: Fidelity


@dataclass(frozen=True)
class _Rounding:
    """What rounding one layer of the graph takes: observers of its input and output, None where there is no rounding."""

    name: str
    before: nn.Module | None
    after: nn.Module | None


def rank_layers(
    prepared: GraphModule, batches: Sequence[Tensor], *, is_classification: bool = True, emit: Emit = ignore
) -> list[LayerSensitivity]:
    """Layers with weights that the recipe makes int8, the one that hurts most first.

    `prepared` is calibrated and stays as it is. Layers that torch takes apart or that are called more than once count as one,
    by the name in the float network that `keep_float` takes.
    """
    plain = without_observers(prepared)
    reference = outputs_of(plain, batches)
    groups = _rounded_layers(prepared)
    found: list[LayerSensitivity] = []
    throttle = Throttle()
    for name, layers in groups.items():
        with _rounded(plain, layers):
            outputs = outputs_of(plain, batches)
        found.append(LayerSensitivity(name, fidelity_of(reference, outputs, is_classification=is_classification)))
        if throttle.is_due() or len(found) == len(groups):
            emit(Working("ranking layers", len(found), len(groups)))
    return sorted(found, key=lambda layer: -layer.fidelity.error)


def _rounded_layers(prepared: GraphModule) -> dict[str, list[_Rounding]]:
    """What to round together, by the name in the float network, in the order of the graph."""
    groups: dict[str, list[_Rounding]] = {}
    for node in prepared.graph.nodes:
        module = called_module(prepared, node)
        if module is None or not isinstance(layer_of(module), CORRECTED) or getattr(module, "qconfig", None) is None:
            continue
        after = next((user for user in node.users if _observer(prepared, user)), None)
        rounding = _Rounding(
            str(node.target), _observer(prepared, node.args[0]), _observer(prepared, after) if after else None
        )
        groups.setdefault(_float_name(prepared, str(node.target)), []).append(rounding)
    return groups


def _observer(prepared: GraphModule, node: Any) -> nn.Module | None:
    module = called_module(prepared, node) if isinstance(node, Node) else None
    return module if module is not None and is_observer(module) else None


def _float_name(prepared: GraphModule, name: str) -> str:
    """The name in the float network of a layer of the graph: attention that was taken apart and later calls have others."""
    facts = graph_facts(prepared)
    for original, calls in facts.shared.items():
        if name in calls:
            return original
    return next((whole for whole in facts.attention if name.startswith(f"{whole}.")), name)


@contextmanager
def _rounded(plain: GraphModule, layers: Sequence[_Rounding]) -> Iterator[None]:
    """Round the weights, inputs and outputs of these layers for a while."""
    hooks, weights = [], []
    try:
        for each in layers:
            module = plain.get_submodule(each.name)
            layer: Any = layer_of(module)
            weights.append((layer, layer.weight))  # others share it: it is replaced, not written to
            layer.weight = nn.Parameter(_round_weight(module, layer.weight.detach()))
            if each.before is not None:
                hooks.append(module.register_forward_pre_hook(_RoundInput(each.before)))
            if each.after is not None:
                hooks.append(module.register_forward_hook(_RoundOutput(each.after)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, weight in weights:
            layer.weight = weight


def _round_weight(module: Any, weight: Tensor) -> Tensor:
    with no_deprecations():
        observer = module.qconfig.weight()
    observer(weight)
    return round_to_codes(weight, observer)


def round_to_codes(values: Tensor, observer: Any) -> Tensor:
    """Values rounded to the codes of an observer that has seen what it needs; per channel if the observer is."""
    with no_deprecations():
        scale, zero_point = observer.calculate_qparams()
    low, high = observer.quant_min, observer.quant_max
    if scale.numel() == 1:
        return torch.fake_quantize_per_tensor_affine(values, float(scale), int(zero_point), low, high)
    return torch.fake_quantize_per_channel_affine(values, scale, zero_point.int(), observer.ch_axis, low, high)


class _RoundInput:
    """A hook that rounds the input of a layer."""

    def __init__(self, observer: nn.Module) -> None:
        self._observer = observer

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (round_to_codes(inputs[0], self._observer), *inputs[1:])


class _RoundOutput:
    """A hook that rounds the output of a layer."""

    def __init__(self, observer: nn.Module) -> None:
        self._observer = observer

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return round_to_codes(output, self._observer)
