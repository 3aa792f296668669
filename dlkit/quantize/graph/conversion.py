"""From a graph of steps that was observed or trained to the int8 program, node by node."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from dlkit.core.release_memory import release_memory
from dlkit.quantize.graph.observed import observer_called, observer_of
from dlkit.quantize.graph.operations import attribute_of, called_module, is_size, shape_of
from dlkit.quantize.graph.placement import label_of
from dlkit.quantize.graph.preparation import graph_facts, keep_facts
from dlkit.quantize.graph.steps import (
    TRANSPOSED,
    Elementwise,
    GraphStep,
    Join,
    MaxPool,
    MeanPool,
    Multiplication,
    Padding,
    Product,
    Resize,
    Sum,
)
from dlkit.quantize.int8 import (
    CONVOLUTIONS,
    Affine,
    Dequantize,
    Epilogue,
    Int8AdaptiveAvgPool,
    Int8Add,
    Int8AvgPool,
    Int8Cat,
    Int8Clamp,
    Int8ConvTranspose,
    Int8Linear,
    Int8Lookup,
    Int8MaxPool,
    Int8Mul,
    Int8Pad,
    Int8Resize,
    PoolGeometry,
    Quantize,
    bind_kernels,
    product_of,
)
from dlkit.quantize.observe import affine_of
from dlkit.quantize.recipe import Recipe
from dlkit.quantize.sharing import copy_sharing_weights

FLOAT = "_float"
MOST_TAKEN = 0.375  # by how much an activation is below its input: hard swish at 1.5, more than SiLU and GELU


def convert(prepared: GraphModule, recipe: Recipe, *, is_bound: bool = True) -> GraphModule:
    """The int8 program of a network that was calibrated or trained, on the CPU; `prepared` is left as it was.

    Layers that stay in float share their parameters with it, if it is on the CPU. Without `is_bound` it has no kernels yet.
    """
    release_memory(prepared.parameters())
    program = _ProgramWriter(prepared, recipe).write()
    if is_bound:
        bind_kernels(program, recipe.backend)
    return keep_facts(program.eval(), graph_facts(prepared))


class _ProgramWriter:
    """Writes the program; `values` stands for the nodes of the prepared graph, `affines` maps those that are codes."""

    def __init__(self, prepared: GraphModule, recipe: Recipe) -> None:
        self._prepared, self._recipe = prepared, recipe
        self._graph, self._parts = Graph(), dict[str, Any]()
        self._values: dict[Node, Node] = {}
        self._floats: dict[Node, Node] = {}
        self._affines: dict[Node, Affine] = {}

    def write(self) -> GraphModule:
        for node in self._prepared.graph.nodes:
            self._values[node] = self._write(node)
            self._values[node].meta = {
                key: node.meta[key] for key in ("shape", "int8", "why_float") if key in node.meta
            }
        program = GraphModule(self._parts, self._graph, class_name=type(self._prepared).__name__)
        program.graph.lint()
        return program

    def _write(self, node: Node) -> Node:
        module = called_module(self._prepared, node)
        observed = observer_called(self._prepared, node)
        if observed is not None:
            return self._observed(node, observed.observer)
        if "int8" not in node.meta:
            return self._float_call(node, module)
        if isinstance(module, GraphStep):
            return self._int8_call(node, module)
        self._affines[node] = next(self._affines[source] for source in node.all_input_nodes if source in self._affines)
        if module is not None:
            self._parts[str(node.target)] = module
        return self._graph.node_copy(node, self._values.__getitem__)

    def _observed(self, node: Node, observer: Any) -> Node:
        """Codes of a float tensor, or the codes that the layer before made already."""
        (source,) = node.all_input_nodes
        self._affines[node] = observer.affine()
        if source in self._affines:
            return self._values[source]
        self._parts[str(node.target)] = Quantize(self._affines[node])
        return self._graph.call_module(str(node.target), (self._values[source],))

    def _float_call(self, node: Node, module: nn.Module | None) -> Node:
        if module is not None and str(node.target) not in self._parts:
            self._parts[str(node.target)] = _float_copy(module)
        if node.op == "get_attr":
            found = attribute_of(self._prepared, node)
            self._parts[str(node.target)] = found if found.device.type == "cpu" else found.detach().cpu()
        return self._graph.node_copy(node, self._values.__getitem__ if is_size(node) else self._real)

    def _real(self, node: Node) -> Node:
        """The value in float32, decoded once for all who read it so."""
        affine = self._affines.get(node)
        if affine is None:
            return self._values[node]
        if node not in self._floats:
            name = f"{FLOAT}.{label_of(node)}"
            self._parts[name] = Dequantize(affine)
            self._floats[node] = self._graph.call_module(name, (self._values[node],))
        return self._floats[node]

    def _int8_call(self, node: Node, step: GraphStep) -> Node:
        sources: list[Node] = []
        map_arg(node.args, sources.append)  # one that is read twice stands twice, unlike in `all_input_nodes`
        given = [self._affines[source] for source in sources if source in self._affines]  # the rest is sizes
        observed = observer_of(self._prepared, node)
        layer = self._layer(node, step, given, None if observed is None else observed.observer.affine())
        if layer.output is not None:
            self._affines[node] = layer.output
        self._parts[str(node.target)] = layer
        return self._graph.call_module(str(node.target), map_arg(node.args, self._values.__getitem__))

    def _layer(self, node: Node, step: Any, given: list[Affine], y: Affine | None) -> Any:
        if isinstance(step, Product):
            return self._product(node, step, given, y)
        if isinstance(step, Elementwise) and step.is_clamp:
            return Int8Clamp(given[0], low=step.bounds[0], high=step.bounds[1])
        if isinstance(step, MaxPool):
            return Int8MaxPool(given[0], _geometry(step.pool), dilation=_numbers(step.pool, step.pool.dilation))
        if isinstance(step, Padding):
            return Int8Pad(given[0], step.sides)
        assert y is not None
        return _COMBINE[type(step)](step, given, y, len(shape_of(node.args[0]) or ()))

    def _product(self, node: Node, step: Product, given: list[Affine], y: Affine | None) -> Any:
        residual = given[1] if len(given) > 1 else None
        frees = residual is not None and self._is_last_reader(node)
        epilogue = Epilogue(y, step.activation, residual, frees_residual=frees)
        bits = self._recipe.weight_bits
        layer = step.folded()
        if layer.bias is None:
            layer = copy_sharing_weights(layer)
            channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            layer.bias = nn.Parameter(torch.zeros(channels))  # bias correction may give it one
        options = {"x": given[0], "epilogue": epilogue, "bits": bits, "is_per_channel": self._recipe.is_per_channel}
        made = _kind(layer).from_float(layer.cpu(), **options)
        if step.inner is not None:
            product_of(made).inner = _inner(step.inner.affine(), y if residual is None else None)
        expect_shape(made, shape_of(node.args[0]))
        return made

    def _is_last_reader(self, node: Node) -> bool:
        """Whether nobody reads the added tensor afterwards, so that the kernel may write into it."""
        source = node.args[1]
        assert isinstance(source, Node)
        observed = observer_called(self._prepared, source)
        maker = source if observed is None else observed.source
        readers = {reader for value in {source, maker} for reader in value.users} - {source}
        is_float = "int8" not in maker.meta  # its codes are made for the observer
        is_fresh = is_float or _makes_new(called_module(self._prepared, maker))
        if not is_fresh or node.args[0] is source or not all("int8" in reader.meta for reader in readers):
            return False
        order = {other: place for place, other in enumerate(self._prepared.graph.nodes)}
        is_step = all(_makes_new(called_module(self._prepared, reader)) for reader in readers)
        return is_step and all(order[reader] <= order[node] for reader in readers)


def _makes_new(module: nn.Module | None) -> bool:
    """Whether the output of an int8 layer never lies in the memory of its input, as that of a pool of single places does."""
    pool: Any = module.pool if isinstance(module, MaxPool) else None
    is_view = pool is not None and set(_numbers(pool, pool.kernel_size)) == {1}
    return isinstance(module, GraphStep) and not is_view


def _inner(inner: Affine, y: Affine | None) -> Affine:
    """What runtimes round a product to before its activation: a range that lets through all that the result has codes for."""
    if y is None:
        return inner
    high = (y.highest - y.zero_point) * y.scale + MOST_TAKEN
    low, top = ((code - inner.zero_point) * inner.scale for code in (inner.lowest, inner.highest))
    return affine_of(low, max(top, high), inner.highest)


def expect_shape(layer: Any, shape: tuple[int, ...] | None) -> None:
    """Let the weight be laid out for inputs of this shape."""
    product_of(layer).expected_shape = shape


def _kind(layer: nn.Module) -> Any:
    if isinstance(layer, nn.Linear):
        return Int8Linear
    if isinstance(layer, TRANSPOSED):
        return Int8ConvTranspose
    return CONVOLUTIONS[layer.weight.dim() - 2]  # type: ignore[operator]


def _float_copy(module: nn.Module) -> nn.Module:
    is_there = all(tensor.device.type == "cpu" for tensor in (*module.parameters(), *module.buffers()))
    return copy_sharing_weights(module).eval() if is_there else copy_sharing_weights(module).cpu().eval()


def _geometry(pool: Any) -> PoolGeometry:
    stride = pool.kernel_size if pool.stride is None else pool.stride
    kernel, stride, padding = (_numbers(pool, value) for value in (pool.kernel_size, stride, pool.padding))
    return PoolGeometry(kernel, stride, padding, ceil_mode=pool.ceil_mode)


def _numbers(pool: Any, value: Any) -> tuple[int, ...]:
    """One number for each dimension of a pool."""
    num = int(type(pool).__name__[-2])
    return tuple(value) if isinstance(value, tuple | list) else (value,) * num


def _mean_pool(step: Any, given: list[Affine], y: Affine, rank: int) -> Any:
    pool = step.pool
    if type(pool).__name__.startswith("Adaptive"):
        return Int8AdaptiveAvgPool(given[0], y, _numbers(pool, pool.output_size))
    return Int8AvgPool(given[0], y, _geometry(pool), count_include_pad=pool.count_include_pad)


def _in_double(function: Any) -> Any:
    """The function for float64 on the CPU, where one with a parameter takes no other."""
    return copy.deepcopy(function).cpu().double() if isinstance(function, nn.Module) else function


_COMBINE: dict[type[GraphStep], Callable[..., Any]] = {
    Sum: lambda step, given, y, rank: Int8Add(given[0], given[1], y, activation=step.activation),
    Multiplication: lambda step, given, y, rank: Int8Mul(given[0], given[1], y),
    Join: lambda step, given, y, rank: Int8Cat(tuple(given), y, dim=step.dim),
    Elementwise: lambda step, given, y, rank: Int8Lookup(_in_double(step.function), given[0], y),
    MeanPool: _mean_pool,
    Resize: lambda step, given, y, rank: Int8Resize(given[0], y, step.size, step.options),
}
