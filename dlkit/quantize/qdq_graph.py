"""From an int8 graph of torch to the same graph in real numbers, with a QuantizeLinear and a DequantizeLinear wherever torch
holds a quantized tensor.

Grids are read off one run of the int8 network; weights, biases and options come out of its layers, so that whatever
corrected them after conversion is in the file.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from dlkit.core.models import is_int8_layer
from dlkit.errors import UsageError
from dlkit.quantize.fx import FUSED_INT8, INT8
from dlkit.quantize.qdq_layers import AsFloat, Grid, QdqConv, QdqLinear, Requantize

CONVOLUTIONS = (INT8.Conv1d, INT8.Conv2d, INT8.Conv3d)
TRANSPOSED = (INT8.ConvTranspose1d, INT8.ConvTranspose2d, INT8.ConvTranspose3d)
FUSED_RELU = (
    FUSED_INT8.ConvReLU1d,
    FUSED_INT8.ConvReLU2d,
    FUSED_INT8.ConvReLU3d,
    FUSED_INT8.LinearReLU,
    FUSED_INT8.BNReLU2d,
    FUSED_INT8.BNReLU3d,
)
# layers that keep float weights and, between grids, do what the float layer does: the int8 class and the float one
AS_FLOAT: dict[Any, type[nn.Module]] = {
    INT8.BatchNorm2d: nn.BatchNorm2d,
    INT8.BatchNorm3d: nn.BatchNorm3d,
    INT8.ELU: nn.ELU,
    INT8.GroupNorm: nn.GroupNorm,
    INT8.Hardswish: nn.Hardswish,
    INT8.InstanceNorm1d: nn.InstanceNorm1d,
    INT8.InstanceNorm2d: nn.InstanceNorm2d,
    INT8.InstanceNorm3d: nn.InstanceNorm3d,
    INT8.LayerNorm: nn.LayerNorm,
    INT8.LeakyReLU: nn.LeakyReLU,
    INT8.Softmax: nn.Softmax,
}
GRID = "_grid"  # behind the name of a node: the module that puts its value on a grid
OPS = torch.ops.quantized
# int8 functions: the float function and how many of the arguments are its own; scale and zero point come behind them
FUNCTIONS: dict[Any, tuple[Callable[..., Any], int]] = {
    OPS.add: (operator.add, 2),
    OPS.add_relu: (operator.add, 2),
    OPS.mul: (operator.mul, 2),
    OPS.mul_relu: (operator.mul, 2),
    OPS.matmul: (torch.matmul, 2),
    OPS.hardswish: (F.hardswish, 1),
    OPS.layer_norm: (F.layer_norm, 5),
    OPS.leaky_relu: (F.leaky_relu, 2),
    OPS.elu: (F.elu, 1),
}
GRID_OPTIONS = ("scale", "zero_point", "output_scale", "output_zero_point")
RELU_FUNCTIONS = (OPS.add_relu, OPS.mul_relu, OPS.linear_relu)
LINEAR_FUNCTIONS = (OPS.linear, OPS.linear_relu)


def qdq_graph(converted: GraphModule, example: Tensor) -> GraphModule:
    """The graph to export; its `Requantize` modules are named for the nodes of `converted`, with `_grid` behind.

    Raises UsageError for an int8 layer or function that has no counterpart in ONNX.
    """
    return _Writer(converted, read_grids(converted, example)).write()


def read_grids(converted: GraphModule, example: Tensor) -> dict[Node, Grid]:
    """The grid of every node whose value is a quantized tensor, from one run."""
    return {node: Grid.of(value) for node, value in run_nodes(converted, example).items() if value.is_quantized}


def run_nodes(converted: GraphModule, inputs: Tensor) -> dict[Node, Tensor]:
    """The tensors that the nodes of a graph compute."""
    found: dict[Node, Tensor] = {}

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n] = value.clone()  # layers may work in place
            return value

    with torch.no_grad():
        Recorder(converted).run(inputs)
    return found


class _Writer:
    """Writes the new graph node by node; `values` holds what stands for each node of the old one."""

    def __init__(self, converted: GraphModule, grids: dict[Node, Grid]) -> None:
        self.converted, self.grids = converted, grids
        self.layers = dict(converted.named_modules())
        self.root, self.graph = nn.Module(), Graph()
        self.values: dict[Node, Node] = {}

    def write(self) -> GraphModule:
        for node in self.converted.graph.nodes:
            if node.op != "get_attr":  # read where they are used: most are scales, which the new layers hold
                self.values[node] = self._write(node)
        module = GraphModule(self.root, self.graph)
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()
        return module

    def _write(self, node: Node) -> Node:
        if node.op == "call_module":
            value, has_relu = self._layer(node, self.layers[str(node.target)])
        elif node.op == "call_function":
            value, has_relu = self._function(node)
        elif node.op == "call_method" and node.target == "dequantize":
            # a value of its own, as torch makes one: what comes next may work in place
            return self.graph.call_method("clone", (self._value(node.all_input_nodes[0]),))
        else:
            value, has_relu = self.graph.node_copy(node, self._value), False
        if node not in self.grids:
            return value
        return self._module(node.name + GRID, Requantize(self.grids[node], floor_at_zero=has_relu), value)

    def _value(self, node: Node) -> Node:
        if node not in self.values:  # a parameter or buffer of the network
            name = str(node.target).replace(".", "_")
            self.root.register_buffer(name, _attribute(self.converted, str(node.target)))
            self.values[node] = self.graph.get_attr(name)
        return self.values[node]

    def _module(self, name: str, module: nn.Module, *inputs: Any, **options: Any) -> Node:
        self.root.add_module(name, module)
        return self.graph.call_module(name, inputs, options)

    def _layer(self, node: Node, layer: nn.Module) -> tuple[Node, bool]:
        """What stands for a layer, and whether a ReLU is fused into it."""
        if isinstance(layer, INT8.Dropout):
            return self._value(node.all_input_nodes[0]), False
        inputs = [map_arg(argument, self._value) for argument in node.args]
        has_relu = isinstance(layer, FUSED_RELU)
        if is_int8_layer(layer):
            layer = self._float_layer(node, layer)
        options = {key: map_arg(value, self._value) for key, value in node.kwargs.items()}
        return self._module(node.name, layer, *inputs, **options), has_relu

    def _float_layer(self, node: Node, layer: Any) -> nn.Module:
        kind = type(layer).__bases__[0] if isinstance(layer, FUSED_RELU) else type(layer)
        if kind in AS_FLOAT:
            return AsFloat(layer, AS_FLOAT[kind])
        if kind in (*CONVOLUTIONS, *TRANSPOSED):
            return QdqConv(layer, self._input_grid(node), is_transposed=kind in TRANSPOSED)
        if kind is INT8.Linear:
            return QdqLinear(layer.weight(), layer.bias(), self._input_grid(node), self.grids.get(node))
        raise _no_counterpart(node, type(layer).__name__)

    def _input_grid(self, node: Node) -> Grid:
        source = node.all_input_nodes[0]
        if source not in self.grids:
            raise _no_counterpart(node, "a layer whose input is not int8")
        return self.grids[source]

    def _function(self, node: Node) -> tuple[Node, bool]:
        """What stands for a function, and whether a ReLU is fused into it."""
        has_relu = node.target in RELU_FUNCTIONS
        if node.target is torch.quantize_per_tensor:
            return self._value(node.all_input_nodes[0]), False
        if node.target in LINEAR_FUNCTIONS:
            return self._linear_function(node), has_relu
        if node.target in FUNCTIONS:
            function, count = FUNCTIONS[node.target]
            arguments = tuple(map_arg(argument, self._value) for argument in node.args[:count])
            options = {
                key: map_arg(value, self._value) for key, value in node.kwargs.items() if key not in GRID_OPTIONS
            }
            return self.graph.call_function(function, arguments, options), has_relu
        if isinstance(node.target, torch._ops.OpOverloadPacket) and str(node.target).startswith("quantized."):
            raise _no_counterpart(node, str(node.target))
        return self.graph.node_copy(node, self._value), False

    def _linear_function(self, node: Node) -> Node:
        packed = _attribute(self.converted, str(node.all_input_nodes[1].target))
        weight, bias = OPS.linear_unpack(packed)
        layer = QdqLinear(weight, bias, self._input_grid(node), self.grids.get(node))
        return self._module(node.name, layer, self._value(node.all_input_nodes[0]))


def _attribute(module: nn.Module, name: str) -> Any:
    return operator.attrgetter(name)(module)


def _no_counterpart(node: Node, what: str) -> UsageError:
    return UsageError(
        f"{node.target} ({what}) has no int8 counterpart in ONNX; keep it in float: --keep-float {node.target}"
    )
