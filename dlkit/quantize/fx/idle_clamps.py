"""Taking activations out of an int8 graph that change no value: a ReLU6 over a grid of 0 to 6 only reads and writes.

torch fuses ReLU into a convolution and never ReLU6, which then costs a MobileNetV2 some tenth of its time. What a
convolution's int8 output can hold is known once its scale is, so that this is exact: outputs stay the same bit for bit.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

LOWEST, HIGHEST = 0, 255  # activations are quint8
_MODULES: dict[type[nn.Module], tuple[float, float]] = {nn.ReLU: (0.0, math.inf), nn.ReLU6: (0.0, 6.0)}
_FUNCTIONS: dict[Any, tuple[float, float]] = {
    F.relu: (0.0, math.inf),
    torch.relu: (0.0, math.inf),
    F.relu6: (0.0, 6.0),
}


def drop_idle_clamps(converted: GraphModule) -> list[str]:
    """Remove clamps whose limits lie outside of what the int8 layer in front of them can give. Gives their nodes' names.

    Changes `converted`, whose scales must be the final ones.
    """
    dropped = []
    for node in list(converted.graph.nodes):
        bounds = _bounds(converted, node)
        grid = _grid(converted, node.args[0]) if bounds else None
        if bounds and grid and _is_idle(bounds, *grid):
            node.replace_all_uses_with(node.args[0])
            converted.graph.erase_node(node)
            dropped.append(node.name)
    converted.recompile()
    return dropped


def _bounds(converted: GraphModule, node: Node) -> tuple[float, float] | None:
    """Between which values a node clamps its first argument, or None for any other node."""
    if not node.args or not isinstance(node.args[0], Node):
        return None
    if node.op != "call_module":
        return _FUNCTIONS.get(node.target) if node.op == "call_function" else None
    module = converted.get_submodule(str(node.target))
    if type(module) is nn.Hardtanh:
        return module.min_val, module.max_val
    return _MODULES.get(type(module))


def _grid(converted: GraphModule, node: Any) -> tuple[float, int] | None:
    """Scale and zero point of what a node gives, where that is an int8 layer with a grid of its own."""
    if node.op != "call_module":
        return None
    module: Any = converted.get_submodule(str(node.target))
    if not type(module).__module__.startswith(("torch.ao.nn.quantized.modules", "torch.ao.nn.intrinsic.quantized")):
        return None
    scale, zero_point = getattr(module, "scale", None), getattr(module, "zero_point", None)
    return None if scale is None or zero_point is None else (float(scale), int(zero_point))


def _is_idle(bounds: tuple[float, float], scale: float, zero_point: int) -> bool:
    """Whether both limits, rounded to the grid as the int8 kernel does it, lie at its ends or beyond."""
    low, high = (zero_point + limit / scale for limit in bounds)
    return low < LOWEST + 0.5 and high > HIGHEST - 0.5
