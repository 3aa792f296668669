"""Leaving out ReLU6 and other clamps where the int8 grid clamps for nothing.

A convolution's kernel saturates at the ends of its output grid. When the clamp behind it is moved into its observer, the grid
ends where the clamp does, all codes are left for values that count, and one pass over the activations is saved.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.quantize.observed import is_observer

Bounds = tuple[float, float]
_FUNCTIONS = frozenset({torch.clamp, torch.clip, F.hardtanh, F.relu6, "clamp", "clamp_", "clip"})


def fold_clamps(prepared: GraphModule) -> list[str]:
    """Take clamps out of a prepared network and let the observers before them clamp instead. Returns the clamps' nodes.

    What the network computes stays the same. Only where nobody else reads the value before the clamp, and where zero lies
    within its bounds, as every int8 grid holds zero.
    """
    modules = dict(prepared.named_modules(remove_duplicate=False))
    folded = []
    for node in list(prepared.graph.nodes):
        bounds = clamp_bounds(modules, node)
        before = node.args[0] if bounds else None
        if bounds and isinstance(before, Node) and _is_foldable(modules, before):
            clamp_inputs(modules[str(before.target)], bounds)
            for after in list(node.users):
                if _observer(modules, after) is _observer(modules, before):
                    after.replace_all_uses_with(before)
                    prepared.graph.erase_node(after)
            node.replace_all_uses_with(before)
            prepared.graph.erase_node(node)
            folded.append(node.name)
    prepared.recompile()
    return folded


def clamp_inputs(observer: nn.Module, bounds: Bounds) -> None:
    """Let an observer see, and hand on, only what lies within the bounds."""
    observer.register_forward_pre_hook(partial(_clamp, low=bounds[0], high=bounds[1]))


def clamp_bounds(modules: Mapping[str, nn.Module], node: Node) -> Bounds | None:
    """The bounds of a call that clamps between two constants around zero, or None."""
    bounds: tuple[Any, Any] = (None, None)
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        bounds = module.min_val, module.max_val
    elif node.op in ("call_function", "call_method") and node.target in _FUNCTIONS:
        bounds = _given_bounds(node)
    low, high = bounds
    is_known = isinstance(low, int | float) and isinstance(high, int | float)
    return (float(low), float(high)) if is_known and low <= 0 <= high and low < high else None


def _given_bounds(node: Node) -> tuple[Any, Any]:
    if node.target is F.relu6:
        return 0.0, 6.0
    defaults = (-1.0, 1.0) if node.target is F.hardtanh else (None, None)
    names = ("min_val", "max_val") if node.target is F.hardtanh else ("min", "max")
    given = [*node.args[1:3], *defaults[len(node.args) - 1 :]]
    return node.kwargs.get(names[0], given[0]), node.kwargs.get(names[1], given[1])


def _is_foldable(modules: Mapping[str, nn.Module], before: Node) -> bool:
    observer = _observer(modules, before)
    if observer is None or len(before.users) != 1 or any(len(source.users) != 1 for source in before.all_input_nodes):
        return False
    # others may share the observer, but only for values that come from behind the clamp
    calls = [node for node in before.graph.nodes if _observer(modules, node) is observer]
    return all(call is before or _comes_from(call, calls) for call in calls)


def _comes_from(call: Node, calls: list[Node]) -> bool:
    return all(source in calls for producer in call.all_input_nodes for source in producer.all_input_nodes)


def _observer(modules: Mapping[str, nn.Module], node: Node) -> nn.Module | None:
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    return module if module is not None and is_observer(module) else None


def _clamp(module: nn.Module, inputs: tuple[Tensor, ...], *, low: float, high: float) -> tuple[Tensor, ...]:
    return (inputs[0].clamp(low, high), *inputs[1:])
