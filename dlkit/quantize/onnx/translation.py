"""From an int8 program to the same graph in real numbers, with a QuantizeLinear and a DequantizeLinear wherever it holds codes."""

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
from dlkit.quantize.graph import Resize, attribute_of
from dlkit.quantize.int8 import (
    Affine,
    Dequantize,
    Int8AdaptiveAvgPool,
    Int8Add,
    Int8AvgPool,
    Int8Cat,
    Int8Clamp,
    Int8Conv1d,
    Int8Conv2d,
    Int8Conv3d,
    Int8ConvTranspose,
    Int8Linear,
    Int8Lookup,
    Int8MaxPool,
    Int8Mul,
    Int8Pad,
    Int8Resize,
    Quantize,
    code_affines,
)
from dlkit.quantize.onnx.layers import QdqConv, QdqLinear, Requantize, bounds_of, transposed

ON_CODES = "_codes"  # behind the name of a node: the module that puts its value on codes
_MAX: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_ADAPT: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


class RealForm(nn.Module):
    """A function of real numbers in place of an int8 layer."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        """The function's value."""
        return self.function(*inputs)


def _max_pool(layer: Int8MaxPool) -> nn.Module:
    where = layer.geometry
    options = (where.kernel, where.stride, where.padding, layer.dilation, where.ceil_mode)
    return RealForm(lambda x: _MAX[len(where.kernel)](x, *options))


def _avg_pool(layer: Int8AvgPool) -> nn.Module:
    where = layer.geometry
    options = (where.kernel, where.stride, where.padding, where.ceil_mode, layer.count_include_pad)
    return RealForm(lambda x: _AVERAGE[len(where.kernel)](x, *options))


def _adaptive(layer: Int8AdaptiveAvgPool) -> nn.Module:
    num = len(layer.size)
    if set(layer.size) == {1}:
        return RealForm(lambda x: x.mean(tuple(range(-num, 0)), keepdim=True))
    return RealForm(lambda x: _ADAPT[num](x, layer.size))


_FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    Quantize: lambda layer: nn.Identity(),
    Dequantize: lambda layer: RealForm(torch.clone),  # a value of its own: what comes next may work in place
    Int8Conv1d: QdqConv,
    Int8Conv2d: QdqConv,
    Int8Conv3d: QdqConv,
    Int8ConvTranspose: transposed,
    Int8Linear: QdqLinear,
    Int8Add: lambda layer: RealForm(operator.add),
    Int8Mul: lambda layer: RealForm(operator.mul),
    Int8Cat: lambda layer: RealForm(lambda *inputs: torch.cat(inputs, layer.dim)),
    Int8Clamp: lambda layer: nn.Identity(),
    Int8Lookup: lambda layer: RealForm(layer.function),
    Int8MaxPool: _max_pool,
    Int8Pad: lambda layer: RealForm(lambda x: F.pad(x, layer.sides)),
    Int8Resize: lambda layer: Resize(layer.size, **layer.options),
    Int8AvgPool: _avg_pool,
    Int8AdaptiveAvgPool: _adaptive,
}


def qdq_graph(program: GraphModule, example: Tensor) -> GraphModule:
    """The graph to export; its `Requantize` modules are named for the nodes of the program, with ON_CODES behind.

    Raises UsageError for an int8 layer that has no counterpart in ONNX.
    """
    codes = code_affines(program)
    values = run_nodes(program, example)
    return _Writer(program, {node: codes[node] for node in values if node in codes}).write()


def run_nodes(program: GraphModule, inputs: Tensor) -> dict[Node, Tensor]:
    """The tensors that the nodes of a graph compute."""
    found: dict[Node, Tensor] = {}

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n] = value.clone()  # layers may work in place
            return value

    with torch.no_grad():
        Recorder(program).run(inputs)
    return found


class _Writer:
    """Writes the new graph node by node; `values` holds what stands for each node of the program."""

    def __init__(self, program: GraphModule, affines: dict[Node, Affine]) -> None:
        self.program, self.affines = program, affines
        self.root, self.graph = nn.Module(), Graph()
        self.values: dict[Node, Node] = {}

    def write(self) -> GraphModule:
        for node in self.program.graph.nodes:
            self.values[node] = self._write(node)
        module = GraphModule(self.root, self.graph)
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()
        return module

    def _write(self, node: Node) -> Node:
        bounds = None
        if node.op == "call_module":
            layer = self.program.get_submodule(str(node.target))
            bounds = (layer.low, layer.high) if isinstance(layer, Int8Clamp) else bounds_of(layer)
            value = self._module(node.name, _real_form(node, layer), node)
        elif node.op == "get_attr":
            name = str(node.target).replace(".", "_")
            self.root.register_buffer(name, attribute_of(self.program, node).detach())
            value = self.graph.get_attr(name)
        else:
            value = self.graph.node_copy(node, self.values.__getitem__)
        if node not in self.affines:
            return value
        self.root.add_module(node.name + ON_CODES, Requantize(self.affines[node], bounds))
        return self.graph.call_module(node.name + ON_CODES, (value,))

    def _module(self, name: str, module: nn.Module, node: Node) -> Node:
        self.root.add_module(name, module)
        args, kwargs = (map_arg(given, self.values.__getitem__) for given in (node.args, node.kwargs))
        return self.graph.call_module(name, args, kwargs)  # type: ignore[arg-type]


def _real_form(node: Node, layer: nn.Module) -> nn.Module:
    if not is_int8_layer(layer):
        return layer
    if type(layer) not in _FORMS:
        raise UsageError(
            f"{node.target} ({type(layer).__name__}) has no int8 counterpart in ONNX; keep it in float: --keep-float {node.target}"
        )
    return _FORMS[type(layer)](layer)
