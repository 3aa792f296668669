"""Where a prepared network is observed: every observer with the tensors that share it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.fx import GraphModule, Node

from dlkit.quantize.sharing import copy_sharing_weights


@dataclass(frozen=True)
class Observed:
    """One observer and its calls in the graph; operations that keep the range of their input share its observer."""

    observer: nn.Module
    calls: tuple[Node, ...]

    @property
    def entries(self) -> list[Node]:
        """The calls whose values come from elsewhere, and not from an operation on values of this same observer."""
        own = set(self.calls)
        return [call for call in self.calls if not own.intersection(sources(call)) and sources(call)]

    @property
    def name(self) -> str:
        """What is observed, by the name of its node in the graph."""
        return str(self.entries[0].args[0]) if self.entries else self.calls[0].name


def is_observer(module: nn.Module) -> bool:
    """Whether a module of a prepared network observes or fake-quantizes a tensor."""
    return hasattr(module, "calculate_qparams")


def observed_tensors(prepared: GraphModule) -> list[Observed]:
    """All observers of a prepared network, in the order of the graph."""
    found: dict[int, tuple[nn.Module, list[Node]]] = {}
    for node in prepared.graph.nodes:
        module = called_module(prepared, node)
        if module is not None and is_observer(module):
            found.setdefault(id(module), (module, []))[1].append(node)
    return [Observed(observer, tuple(calls)) for observer, calls in found.values()]


def called_module(network: GraphModule, node: Node) -> nn.Module | None:
    """The module that a node calls, or None for a node of another kind."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def sources(call: Node) -> Sequence[Node]:
    """Inputs of the operation whose output an observer sees; the output itself where it is an input of the network."""
    (value,) = call.all_input_nodes[:1] or [call]
    return value.all_input_nodes or [value]


def layer_of(module: nn.Module) -> nn.Module:
    """The convolution or linear layer of a module that torch fused with its activation, or the module itself."""
    if isinstance(module, nn.Sequential) and type(module) is not nn.Sequential:
        return next(module.children())
    return module


def without_observers(prepared: GraphModule) -> GraphModule:
    """A copy of a prepared network that observes nothing: the float network, with batch norms folded and layers fused.

    It shares the parameters of `prepared`. Clamps that were moved into observers go on clamping, in modules that do nothing else.
    """
    plain = copy_sharing_weights(prepared)
    clamps: dict[int, nn.Module] = {}
    for node in plain.graph.nodes:
        module = called_module(plain, node)
        if module is not None and is_observer(module):
            clamps.setdefault(id(module), Watched(module))
            plain.set_submodule(str(node.target), clamps[id(module)])
    return plain


class Watched(nn.Identity):
    """Stands where an observer was, and clamps what it clamped."""

    def __init__(self, observer: nn.Module) -> None:
        super().__init__()
        for hook in observer._forward_pre_hooks.values():
            self.register_forward_pre_hook(hook)
