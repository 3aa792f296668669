"""The state of a trace: which channel each number of each tensor belongs to, and what was found about the channels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from dlkit.core.models import RunningModule, RunningModules, tensors_in
from dlkit.prune.computed_weights import find_computed_weights
from dlkit.prune.dependency.union_find import FREE, UnionFind, compact, varying_dims, without_repeats

INPUT = "the input"
COMPUTED = "its weight is computed from other values at every call"
OPAQUE = (nn.RNNBase, nn.RNNCellBase, ParametrizationList)  # not followed inside
NOT_SHRUNK = "recurrent layers are not shrunk"
_MOST_NUMBERS = 4_000_000  # a parameter used number by number that is larger than this is not cut

Follow = Callable[["Tracer", Any, Any, Any, Any], None]


@dataclass(frozen=True)
class Channels:
    """An activation: the node of every number, in the tensor's own shape.

    `vanishes` says that a channel is exactly 0 here when the weights that make it are 0; otherwise `why` names the operator
    after which it is not.
    """

    labels: Tensor
    vanishes: bool
    why: str = ""


@dataclass(frozen=True)
class StoredTensor:
    """A parameter or buffer, perhaps reshaped: `index[d]` is the place along its dimension d that each number came from."""

    name: str
    index: tuple[Tensor, ...]


Tracked = Channels | StoredTensor


@dataclass
class Findings:
    """What a trace found. A side is (name of a tensor, its dimension); labels are nodes of `classes`.

    - `axis_nodes` are the nodes along every side; `element_nodes` those of parameters used number by number
    - `sides` have channels; of those `makers` compute new channels and `readers` read channels
    - `fixed` channels stay, with the reason
    - `left_over` channels are read as something else than 0 when the weights that make them are 0
    - `mixed` channels are ones on which other channels depend, for example through a norm's statistics
    - `parted` are rows of nodes of which every row must keep as many
    - `grouped_inputs` are the inputs of grouped convolutions, which dimension 1 of their weights does not list
    - `whole` are layers of which no channel can go although they have some: how many, and the reason
    """

    classes: UnionFind = field(default_factory=UnionFind)
    axis_nodes: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    element_nodes: dict[str, Tensor] = field(default_factory=dict)
    sides: dict[tuple[str, int], None] = field(default_factory=dict)
    makers: dict[tuple[str, int], None] = field(default_factory=dict)
    readers: dict[tuple[str, int], None] = field(default_factory=dict)
    fixed: list[tuple[Tensor, str]] = field(default_factory=list)
    left_over: list[tuple[Tensor, str]] = field(default_factory=list)
    mixed: list[tuple[Tensor, str]] = field(default_factory=list)
    parted: list[Tensor] = field(default_factory=list)
    grouped_inputs: dict[str, Tensor] = field(default_factory=dict)
    whole: dict[str, tuple[int, str]] = field(default_factory=dict)


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator of a forward pass and has `follow(tracer, operator, args, kwargs, result)` label its result."""

    def __init__(self, network: nn.Module, follow: Follow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the base is untyped
        self._follow = follow
        self.running = RunningModules()
        self._computed = find_computed_weights(network)
        self.findings = Findings()
        self.classes = self.findings.classes
        self._tracked: Any = WeakTensorKeyDictionary()
        stored = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        self._shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
        for name, tensor in stored.items():
            places = [torch.arange(size) for size in tensor.shape]
            self._tracked[tensor] = StoredTensor(name, tuple(torch.meshgrid(*places, indexing="ij")) if places else ())
            for dim, size in enumerate(tensor.shape):
                self.findings.axis_nodes[name, dim] = torch.arange(size) + self.classes.add(size)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator, and follow its channels where an operand has some."""
        kwargs = kwargs or {}
        out = op(*args, **kwargs)
        operands = tensors_in((args, kwargs))
        opaque = next((entered for entered in self.running.stack if isinstance(entered.module, OPAQUE)), None)
        if opaque is not None:
            self._stop_at(opaque, operands)
        elif any(self.get(tensor) is not None for tensor in operands):
            self._follow(self, op, args, kwargs, out)
            self._drop_reshaped(op, args)
        return out

    def _stop_at(self, entered: RunningModule, operands: list[Tensor]) -> None:
        """What an opaque module gives counts as a constant; recurrent layers keep all their sizes, and what they read stays."""
        if isinstance(entered.module, ParametrizationList):
            return
        kind = type(entered.module).__name__
        self.findings.whole[entered.name] = (int(entered.module.hidden_size), f"{kind}: {NOT_SHRUNK}")  # type: ignore[arg-type]
        for tensor in operands:
            self.fix_tensor(tensor, f"is read by {entered.name or 'the network'} ({kind}): {NOT_SHRUNK}")

    def keep_whole(self, weight: Tensor, dim: int) -> str:
        """Note that the running layer stays whole, as its weight, with outputs along `dim`, is computed; return why what it
        reads stays, too.
        """
        name = self.running.innermost.name if self.running.innermost else ""
        reason = self._computed.get(name, COMPUTED)
        if not isinstance(self.get(weight), StoredTensor):
            self.findings.whole[name] = (weight.shape[dim], reason)
        return f"is read by {name or 'the network'}: {reason}"

    def _drop_reshaped(self, op: Any, args: Any) -> None:
        """Give up a tensor that an operator gave another shape in place, where that was not followed."""
        if not args or not op._schema.is_mutable:
            return
        changed, tracked = args[0], self.get(args[0])
        if isinstance(tracked, Channels) and tracked.labels.shape != changed.shape:
            self.fix(
                self.classes.roots(tracked.labels), f"goes through {op.overloadpacket.__name__}, which is not followed"
            )
            del self._tracked[changed]

    def add_input(self, tensor: Tensor) -> None:
        """Mark the network's input, of shape (N, ...): its numbers are never removed."""
        count = prod(tensor.shape[1:])
        labels = torch.arange(count) + self.classes.add(count)
        self.fix(labels, "reaches the model's input")
        self.put(tensor, labels.reshape(1, *tensor.shape[1:]).expand(tensor.shape), vanishes=False, why=INPUT)

    def get(self, tensor: Any) -> Tracked | None:
        """What is known of a tensor; None for constants."""
        return self._tracked.get(tensor) if isinstance(tensor, Tensor) else None

    def put(self, tensor: Tensor, labels: Tensor, *, vanishes: bool, why: str = "") -> None:
        """Record the labels of an activation, in the tensor's shape or one that broadcasts to it."""
        labels = labels.expand(tensor.shape)
        self._tracked[tensor] = Channels(labels, vanishes, why)

    def put_stored(self, tensor: Tensor, stored: StoredTensor) -> None:
        """Record which numbers of a parameter a tensor holds."""
        self._tracked[tensor] = stored

    def labels(self, tensor: Tensor) -> Tensor:
        """The root of every number of a tensor, compacted; FREE throughout for a constant."""
        return compact(self.classes.roots(self.channels(tensor).labels))

    def channels(self, tensor: Tensor) -> Channels:
        """A tensor as an activation. A parameter is taken number by number, and is 0 when its channel is masked."""
        tracked = self.get(tensor)
        if tracked is None:
            return Channels(torch.full((1,) * tensor.dim(), FREE).expand(tensor.shape), vanishes=False)
        if isinstance(tracked, Channels):
            return tracked
        return Channels(self._number_labels(tracked), vanishes=True)

    def is_table(self, tensor: Tensor) -> bool:
        """Whether a tensor is a parameter or buffer that is longer than 1 along several dimensions, or a part of one."""
        tracked = self.get(tensor)
        return isinstance(tracked, StoredTensor) and sum(size > 1 for size in self._shapes[tracked.name]) > 1

    def _number_labels(self, stored: StoredTensor) -> Tensor:
        """Nodes of a parameter's single numbers: the dimension's own where only one dimension is longer than 1."""
        shape = self._shapes[stored.name]
        long = [dim for dim, size in enumerate(shape) if size > 1]
        if len(long) == 1:
            self.findings.sides[stored.name, long[0]] = None
            return self.findings.axis_nodes[stored.name, long[0]][compact(stored.index[long[0]])]
        if not long or prod(shape) > _MOST_NUMBERS:
            size = stored.index[0].shape if stored.index else torch.Size()
            return torch.full((1,) * len(size), FREE).expand(size)
        nodes = self.findings.element_nodes.get(stored.name)
        if nodes is None:
            nodes = (torch.arange(prod(shape)) + self.classes.add(prod(shape))).reshape(shape)
            self.findings.element_nodes[stored.name] = nodes
        return nodes[stored.index]

    def side_nodes(self, tensor: Tensor, dim: int, *, part: str = "along") -> Tensor | None:
        """Nodes along one dimension of a tensor that is a parameter, perhaps reshaped; None where it is none, or where that
        dimension is no single one of the parameter's.

        A dimension of length 1 has no channel to remove and is FREE. `part` is what the side does with channels: it
        `makes` them, `reads` them or lies `along` them.
        """
        stored = self.get(tensor)
        if not isinstance(stored, StoredTensor):
            return None
        if tensor.shape[dim] == 1:
            return torch.tensor([FREE])
        index = [compact(places) for places in stored.index]
        axes = [axis for axis, places in enumerate(index) if dim in varying_dims(places)]
        if len(axes) != 1 or varying_dims(index[axes[0]]) != [dim % tensor.dim()]:
            return None
        side = (stored.name, axes[0])
        self.findings.sides[side] = None
        if part == "makes":
            self.findings.makers[side] = None
        elif part == "reads":
            self.findings.readers[side] = None
        places = index[axes[0]]
        return self.findings.axis_nodes[side][places.movedim(dim, 0).reshape(tensor.shape[dim], -1)[:, 0]]

    def channel_nodes(self, tensor: Tensor, *, dim: int) -> Tensor:
        """The node of each channel along a dimension; joins a channel's numbers over all other dimensions."""
        labels = self.labels(tensor)
        flat = labels.movedim(dim, 0).reshape(labels.shape[dim], -1)
        if [d for d in varying_dims(labels) if d != dim]:
            self.classes.join(flat, flat[:, :1])
        return flat[:, 0]

    def fix(self, labels: Tensor | None, reason: str) -> None:
        """Never remove these channels."""
        if labels is not None:
            self.findings.fixed.append((nodes_in(labels), reason))

    def fix_tensor(self, tensor: Tensor, reason: str) -> None:
        """Never remove any channel that a tensor carries, or, of a parameter, any along any dimension."""
        tracked = self.get(tensor)
        if isinstance(tracked, Channels):
            self.fix(self.labels(tensor), reason)
        elif isinstance(tracked, StoredTensor):
            for dim in range(len(self._shapes[tracked.name])):
                self.fix(self.findings.axis_nodes[tracked.name, dim], reason)
            self.fix(self.findings.element_nodes.get(tracked.name), reason)

    def mix(self, labels: Tensor, reason: str) -> None:
        """Other channels depend on how many of these there are: setting weights to 0 is not the same as removal."""
        self.findings.mixed.append((nodes_in(labels), reason))

    def leave_over(self, labels: Tensor, reason: str) -> None:
        """These channels are not 0 where they are read although their weights are: removal drops what they still add."""
        self.findings.left_over.append((nodes_in(labels), reason))

    def part(self, rows: Tensor) -> None:
        """Every row of these nodes, of shape (rows, nodes), must keep as many."""
        self.findings.parted.append(rows.clone())


def nodes_in(labels: Tensor) -> Tensor:
    """The nodes that occur in a tensor of labels, each once."""
    nodes: Tensor = without_repeats(compact(labels)).unique()  # type: ignore[no-untyped-call]
    return nodes[nodes >= 0]
