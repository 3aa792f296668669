"""Making an exported QDQ graph one that ONNX Runtime fuses whole: what torch's exporter leaves for others to do."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper

CONV_DEFAULTS = {"auto_pad": b"NOTSET", "dilations": 1, "group": 1, "pads": 0, "strides": 1}
SPATIAL_AXES = {4: [2, 3], 3: [2], 5: [2, 3, 4]}


def clean_qdq(model: ModelProto) -> None:
    """Change a QDQ model in place: clipping on integers, no trip to real numbers and back on one grid, pooling by its name."""
    index = _Index(model.graph)
    for node in list(model.graph.node):
        if node.op_type == "QuantizeLinear":
            _stay_on_grid(index, node)
        elif node.op_type == "ReduceMean":
            _name_global_pooling(index, node)
        elif node.op_type == "Conv":
            _drop_defaults(node)
        elif node.op_type == "DequantizeLinear" and index.constant(node.input[0]) is not None:
            node.ClearField("name")  # that of the weight says it all
    index.drop_unused()
    _shorten_names(model.graph)
    # shapes in between are no part of what runs, and small networks have more of them than of weights
    del model.graph.value_info[:]


def _shorten_names(graph: GraphProto) -> None:
    """Tensors between operations by number, where the exporter has `_symbolic_17` for whatever it was given as an ONNX operation."""
    for node in graph.node:
        node.name = node.name.replace("/_symbolic", "/t")
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name.startswith("_symbolic"):
                    names[position] = name.replace("_symbolic", "t", 1)


def _stay_on_grid(index: "_Index", quantize: NodeProto) -> None:
    """DequantizeLinear, perhaps Relu or Clip, and QuantizeLinear to the same grid: at most a Clip of integers."""
    between = index.producer(quantize.input[0])
    clip = between if between is not None and between.op_type in ("Relu", "Clip") else None
    dequantize = index.producer(clip.input[0]) if clip is not None else between
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return
    grids = [[index.constant(name) for name in node.input[1:3]] for node in (dequantize, quantize)]
    if not all(one is not None and one.size == 1 and one == other for one, other in zip(*grids, strict=True)):
        return
    scale, zero_point = (float(value) for value in grids[0] if value is not None)
    dtype = grids[0][1].dtype  # type: ignore[union-attr]
    bounds = _bounds(index, clip)
    if bounds is None:
        return
    lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    # rounding never changes an order, so that clipping the integers is clipping the reals
    low, high = (int(np.clip(np.rint(np.float64(bound) / scale) + zero_point, lowest, highest)) for bound in bounds)
    source, target = dequantize.input[0], quantize.output[0]
    if (low, high) == (lowest, highest):
        index.replace_uses(target, source)
        return
    limits = [
        index.add_constant(f"{quantize.name}/{name}", np.array(value, dtype))
        for name, value in (("min", low), ("max", high))
    ]
    quantize.CopyFrom(helper.make_node("Clip", [source, *limits], [target], name=quantize.name))


def _bounds(index: "_Index", clip: NodeProto | None) -> tuple[float, float] | None:
    """The least and the largest real number that gets through; None where that is not a constant."""
    if clip is None:
        return -np.inf, np.inf
    if clip.op_type == "Relu":
        return 0.0, np.inf
    found = []
    for position, free in ((1, -np.inf), (2, np.inf)):
        name = clip.input[position] if len(clip.input) > position else ""
        value = index.constant(name) if name else np.array(free)
        if value is None:
            return None
        found.append(float(value))
    return found[0], found[1]


def _drop_defaults(conv: NodeProto) -> None:
    """Take out attributes that ONNX takes for granted: in networks of many small layers they weigh as much as a layer."""
    for attribute in list(conv.attribute):
        default = CONV_DEFAULTS.get(attribute.name)
        if default is not None and set(_values(attribute)) <= {default}:
            conv.attribute.remove(attribute)


def _values(attribute: AttributeProto) -> list[object]:
    value = helper.get_attribute_value(attribute)
    return list(value) if isinstance(value, Iterable) and not isinstance(value, bytes) else [value]


def _name_global_pooling(index: "_Index", mean: NodeProto) -> None:
    """A mean over height and width is a GlobalAveragePool, which runtimes have an int8 kernel for."""
    rank = index.ranks.get(mean.input[0])
    axes = index.constant(mean.input[1]) if len(mean.input) > 1 else None
    if rank not in SPATIAL_AXES or axes is None:
        return
    if sorted(int(axis) % rank for axis in axes) != SPATIAL_AXES[rank]:
        return
    keeps = next((attribute.i for attribute in mean.attribute if attribute.name == "keepdims"), 1)
    if keeps:
        mean.CopyFrom(helper.make_node("GlobalAveragePool", [mean.input[0]], [mean.output[0]], name=mean.name))
    else:
        _pool_then_flatten(index, mean)


def _pool_then_flatten(index: "_Index", mean: NodeProto) -> None:
    """The pooling goes on the grid that the mean goes on, before it is flattened: an int8 kernel ends with its grid."""
    pooled = f"{mean.output[0]}/pooled"
    steps = [helper.make_node("GlobalAveragePool", [mean.input[0]], [pooled], name=f"{mean.name}/pool")]
    if grid := index.grid_behind(mean.output[0]):
        steps.append(helper.make_node("QuantizeLinear", [pooled, *grid], [f"{pooled}/integers"]))
        steps.append(helper.make_node("DequantizeLinear", [f"{pooled}/integers", *grid], [f"{pooled}/on_grid"]))
    mean.CopyFrom(helper.make_node("Flatten", [steps[-1].output[0]], [mean.output[0]], name=mean.name, axis=1))
    index.insert_before(mean, steps)


@dataclass
class _Index:
    """A graph with its tensors by name."""

    graph: GraphProto

    def __post_init__(self) -> None:
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.constants = {item.name: item for item in self.graph.initializer}
        self.ranks = {
            value.name: len(value.type.tensor_type.shape.dim) for value in (*self.graph.value_info, *self.graph.input)
        }

    def producer(self, name: str) -> NodeProto | None:
        return self.producers.get(name)

    def constant(self, name: str) -> np.ndarray | None:
        item = self.constants.get(name)
        return None if item is None else numpy_helper.to_array(item)

    def add_constant(self, name: str, value: np.ndarray) -> str:
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def replace_uses(self, old: str, new: str) -> None:
        for node in self.graph.node:
            for position, name in enumerate(node.input):
                if name == old:
                    node.input[position] = new

    def insert_before(self, node: NodeProto, new: list[NodeProto]) -> None:
        place = list(self.graph.node).index(node)
        for offset, item in enumerate(new):
            self.graph.node.insert(place + offset, item)

    def grid_behind(self, name: str) -> list[str]:
        """Scale and zero point of the QuantizeLinear that is the only one to read a tensor; none where others do."""
        readers = [node for node in self.graph.node if name in node.input]
        is_only = len(readers) == 1 and readers[0].op_type == "QuantizeLinear"
        return list(readers[0].input[1:3]) if is_only else []

    def drop_unused(self) -> None:
        """Take out nodes and constants that no output needs."""
        needed = {value.name for value in self.graph.output}
        for node in reversed(list(self.graph.node)):
            if needed & set(node.output):
                needed |= set(node.input)
            else:
                self.graph.node.remove(node)
        for item in [item for item in self.graph.initializer if item.name not in needed]:
            self.graph.initializer.remove(item)
        for value in [value for value in self.graph.value_info if value.name not in needed]:
            self.graph.value_info.remove(value)
