"""From a network to a torch.fx graph, and words for networks that have none."""

import inspect
import linecache
import operator
import traceback
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Interpreter, Node, Proxy, Tracer
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils._pytree import tree_leaves

from dlkit.core.models import eval_mode
from dlkit.errors import UsageError
from dlkit.quantize.graph.exported import trace_exported

_TORCH = str(Path(torch.__file__).parent)


class _LayerTracer(Tracer):
    """Leaves torch's layers whole, and the modules of these names."""

    def __init__(self, leaves: Sequence[str]) -> None:
        super().__init__()
        self._leaves = frozenset(leaves)

    def proxy(self, node: Node) -> Proxy:
        return _Overwriting(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self._leaves or super().is_leaf_module(m, module_qualified_name)


class _Overwriting(Proxy):
    """A value whose `+=` and the like write into it; to torch.fx they make another."""


def _in_place(name: str) -> Callable[[Proxy, Any], Proxy]:
    def compute(self: Proxy, other: Any) -> Proxy:
        return self.tracer.create_proxy("call_function", getattr(operator, f"i{name}"), (self, other), {}, name=name)

    return compute


for _name in ("add", "sub", "mul", "truediv", "pow", "mod", "floordiv", "matmul"):
    setattr(_Overwriting, f"__i{_name}__", _in_place(_name))


def trace(network: nn.Module, leaves: Sequence[str], example: Tensor | None = None) -> GraphModule:
    """The graph of a network as it runs in evaluation mode. Its modules are the network's own; their modes stay as they are.

    `leaves` name modules that are left whole. What depends on the mode in plain Python (auxiliary heads, stochastic depth) is
    fixed to evaluation. A network that torch.fx cannot follow, because it decides in Python by sizes, is followed by torch.export at
    the sizes of `example`, one batch of inputs, if there is one. Raises UsageError, with the place in the user's code, for a network that
    decides in Python what to do with the values of tensors.
    """
    tracer = _LayerTracer(leaves)
    try:
        with warnings.catch_warnings(), eval_mode(network):
            warnings.simplefilter("ignore")  # what the network warns of in a trace, it warns of again when it runs
            settled = _settled_inputs(network)
            graph = tracer.trace(network, settled)
        _drop_inputs(graph, settled)
    except Exception as error:  # user code raises anything when it meets a proxy instead of a tensor
        exported = None if leaves or example is None else _export(network, example)
        if exported is None:
            raise UsageError(_why_untraceable(network, error)) from error
        return exported
    return GraphModule(network, graph, class_name=type(network).__name__)


def _settled_inputs(network: nn.Module) -> dict[str, Any]:
    """The values of inputs behind the first that `forward` need not be given, such as a mask: what it computes is that of these."""
    parameters = list(inspect.signature(network.forward).parameters.values())[1:]
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


def _drop_inputs(graph: Graph, settled: Collection[str]) -> None:
    """Take out inputs that the trace has a value for, with the checks of them."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for node in [one for one in inputs if str(one.target).rpartition("_")[0] in settled]:
        for check in [other for user in node.users for other in (*user.users, user)]:
            graph.erase_node(check)
        graph.erase_node(node)


def _export(network: nn.Module, example: Tensor) -> GraphModule | None:
    device = next((parameter.device for parameter in network.parameters()), example.device)
    try:
        with warnings.catch_warnings(), eval_mode(network):
            warnings.simplefilter("ignore")  # of tracing
            return trace_exported(network, example.to(device))
    except Exception:  # it fails with many kinds of errors; what torch.fx said names the place
        return None


def _why_untraceable(network: nn.Module, error: Exception) -> str:
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _is_ours(frame)]
    if not frames:
        return f"torch.fx cannot follow this network: {error}. {_DYNAMIC}"
    frame, line = frames[-1]
    path = frame.f_code.co_filename
    code = linecache.getline(path, line).strip()
    name = _innermost_module(network, [frame for frame, _ in frames])
    advice = (
        f"Leave the submodule {name} as it is: --keep-float {name}. {_DYNAMIC}"
        if name
        else f"This line is in the network's own forward: move it to a submodule and keep that one in float. {_DYNAMIC}"
    )
    return f"{path}:{line}: torch.fx cannot follow `{code}`: {error}. {advice}"


_DYNAMIC = "Or quantize dynamically, which needs no graph: --dynamic"


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_TORCH)


def _innermost_module(network: nn.Module, frames: Sequence[FrameType]) -> str:
    """Name of the submodule whose code was running; empty for the network itself."""
    names = {id(module): name for name, module in network.named_modules()}
    found = ""
    for frame in frames:
        arguments = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        owner = frame.f_locals.get(arguments[0]) if arguments else None
        found = names.get(id(owner), found)
    return found


def record_shapes(traced: GraphModule, example: Tensor) -> None:
    """Write the shape of every float tensor into its node's `meta["shape"]`, for one batch of inputs; computes nothing if it can."""
    for node, value in _values(traced, example).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            node.meta["shape"] = tuple(value.shape)


def find_memory(traced: GraphModule, example: Tensor) -> dict[Node, set[int]]:
    """For each node the memories, by number, that its tensors lie in: views share theirs."""
    values = _values(traced, example)
    return {node: {tensor.untyped_storage()._cdata for tensor in _tensors(value)} for node, value in values.items()}


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _values(traced: GraphModule, example: Tensor) -> dict[Node, Any]:
    """What each node makes."""
    try:
        FakeTensorProp(traced, FakeTensorMode(allow_non_fake_inputs=True)).propagate(example)
    except Exception:  # code of a user's own that asks tensors for their values
        try:
            _RealValues(traced).run(example.clone())
        except ValueError:  # a norm without statistics wants more than one sample
            _RealValues(traced).run(torch.cat([example, example]))
    return {node: node.meta.pop("val", None) for node in traced.graph.nodes if node.op != "output"}


class _RealValues(Interpreter):
    def run_node(self, n: Node) -> Any:
        n.meta["val"] = value = super().run_node(n)
        return value
