"""Rewrites of a float graph that torch.ao needs to quantize it soundly. Each leaves what the network computes as it is.

They depend on the graph alone, so that a network that is rebuilt for a file becomes the same again.
"""

import copy
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

# called twice, these do no harm: their int8 forms hold no numbers of their own
_STATELESS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Identity, nn.Flatten, nn.modules.dropout._DropoutNd)
_STATELESS_PREFIXES = ("torch.nn.modules.pooling", "torch.nn.modules.padding")
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_ROW_NORMS = (nn.LayerNorm, nn.RMSNorm)
_IDENTITIES = frozenset({"stochastic_depth", "drop_path", "dropout", "feature_dropout", "alpha_dropout"})
_ARITHMETIC = frozenset(
    {operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, torch.add, torch.sub, torch.mul, torch.cat}
)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_RELU_FUNCTIONS = frozenset({torch.relu, torch.relu_, F.relu_})
_RELU_METHODS = frozenset({"relu", "relu_"})
_RELUS_IN_PLACE = frozenset({torch.relu_, F.relu_, "relu_"})


class FloatOperation(nn.Module):
    """One function of a graph as a module, which torch.ao does not know and so leaves in float."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)


class AttentionCore(nn.Module):
    """Attention without its projections: queries, keys, values (N, L, E) or, not `batch_first`, (L, N, E) to the same shape."""

    def __init__(self, num_heads: int, dropout: float, *, batch_first: bool) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.batch_first = num_heads, dropout, batch_first

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The heads' outputs side by side."""
        query, key, value = self._split(query), self._split(key), self._split(value)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        out = out.transpose(1, 2).flatten(2)
        return out if self.batch_first else out.transpose(0, 1)

    def _split(self, tensor: Tensor) -> Tensor:
        tensor = tensor if self.batch_first else tensor.transpose(0, 1)
        return tensor.reshape(*tensor.shape[:2], self.num_heads, -1).transpose(1, 2)


LEFT_IN_FLOAT = (FloatOperation, AttentionCore)


def separate_shared_modules(traced: GraphModule) -> dict[str, list[str]]:
    """Give every call of a module that is called more than once a module of its own, with the same parameters.

    An int8 module has one output scale, and folding two batch norms into one convolution would be wrong. Returns the names of
    the added modules by the name of the one that they stand for.
    """
    seen: set[int] = set()
    added: dict[str, list[str]] = {}
    for node in _module_calls(traced):
        target, module = str(node.target), traced.get_submodule(str(node.target))
        if id(module) in seen and _holds_numbers(module):
            names = added.setdefault(target, [])
            names.append(f"{target}_call{len(names) + 2}")
            tied: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
            traced.add_submodule(names[-1], copy.deepcopy(module, tied))
            node.target = names[-1]
        seen.add(id(module))
    traced.recompile()
    return added


def _module_calls(traced: GraphModule) -> Iterator[Node]:
    return (node for node in list(traced.graph.nodes) if node.op == "call_module")


def _holds_numbers(module: nn.Module) -> bool:
    kind = type(module).__module__
    return kind.startswith("torch.nn") and not isinstance(module, _STATELESS) and kind not in _STATELESS_PREFIXES


def drop_identities(traced: GraphModule) -> None:
    """Take out functions that do nothing in evaluation mode, such as torchvision's stochastic depth.

    torch.ao does not know them and would leave the int8 grid and come back to it for each.
    """
    for node in list(traced.graph.nodes):
        arguments = [*node.args, *node.kwargs.values()]
        if node.op == "call_function" and getattr(node.target, "__name__", "") in _IDENTITIES and False in arguments:
            node.replace_all_uses_with(node.args[0] if node.args else node.kwargs["input"])
            traced.graph.erase_node(node)
    traced.recompile()


def unify_relus(traced: GraphModule) -> None:
    """Write `torch.relu(x)`, `x.relu()` and their forms in place as `F.relu(x)`, which torch.ao knows.

    It leaves the others in float, or runs them as kernels of their own. A form in place stays where somebody else sees
    what it changes: its input has another reader, or may be a view of another tensor.
    """
    for node in list(traced.graph.nodes):
        if _is_relu(node) and not (node.target in _RELUS_IN_PLACE and _is_seen_by_others(node)):
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.call_function(F.relu, node.args, node.kwargs))
            traced.graph.erase_node(node)
    traced.recompile()


def _is_relu(node: Node) -> bool:
    if node.op == "call_method":
        return node.target in _RELU_METHODS
    return node.op == "call_function" and node.target in _RELU_FUNCTIONS


def _is_seen_by_others(node: Node) -> bool:
    source = node.all_input_nodes[0]
    makes_new = source.op == "call_module" or getattr(source.target, "__name__", "") in ("add", "iadd", "mul", "cat")
    return len(source.users) > 1 or not makes_new


def fold_norms(traced: GraphModule) -> None:
    """Fold every batch norm in evaluation mode into the convolution or linear layer that feeds it and nobody else.

    torch.ao folds one norm and then takes a second one for a part of the convolution, which it leaves in float.
    """
    for node in list(traced.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        layer, norm = traced.get_submodule(str(source.target)), traced.get_submodule(str(node.target))
        folded = _fold(layer, norm)
        if folded is not None:
            traced.set_submodule(str(source.target), folded)
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)
    traced.recompile()


def _fold(layer: nn.Module, norm: nn.Module) -> nn.Module | None:
    """One layer that computes both, or None where they do not fit."""
    if type(norm) not in _BATCH_NORMS or norm.running_mean is None:
        return None
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    if type(layer) in _CONVOLUTIONS or type(layer) in _TRANSPOSED:
        assert isinstance(layer, nn.modules.conv._ConvNd)
        return fuse_conv_bn_eval(layer, norm, transpose=type(layer) in _TRANSPOSED)
    if type(layer) is nn.Linear and layer.out_features == norm.num_features:
        return fuse_linear_bn_eval(layer, norm)
    return None


def split_attention(traced: GraphModule) -> list[str]:
    """Take self-attention apart, so that its four projections are linear layers that can be int8. Returns its names.

    Only where the call is plain: one input for queries, keys and values, no masks, and weights that nobody asks for.
    """
    names = []
    for node in _module_calls(traced):
        module = traced.get_submodule(str(node.target))
        if type(module) is nn.MultiheadAttention and _is_plain_self_attention(node, module):
            _split(traced, node, module)
            names.append(str(node.target))
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return names


def _is_plain_self_attention(node: Node, module: nn.MultiheadAttention) -> bool:
    inputs = [*node.args, *(node.kwargs[name] for name in ("query", "key", "value") if name in node.kwargs)]
    others = {name: value for name, value in node.kwargs.items() if name not in ("query", "key", "value")}
    takes_output = all(
        user.op == "call_function"
        and user.target is operator.getitem
        and (user.args[1] == 0 or (user.args[1] == 1 and not user.users))
        for user in node.users
    )
    return (
        len(inputs) == 3
        and inputs[0] is inputs[1] is inputs[2]
        and others == {"need_weights": False}
        and takes_output
        and module._qkv_same_embed_dim
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _split(traced: GraphModule, node: Node, module: nn.MultiheadAttention) -> None:
    name = str(node.target)
    parts = _projections(module)
    parts["core"] = AttentionCore(module.num_heads, module.dropout, batch_first=module.batch_first)
    container = nn.Module()
    for part, layer in parts.items():
        container.add_module(part, layer.train(module.training))
    traced.set_submodule(name, container)
    source = node.args[0] if node.args else node.kwargs["query"]
    with traced.graph.inserting_before(node):
        heads = [traced.graph.call_module(f"{name}.{part}", (source,)) for part in ("q_proj", "k_proj", "v_proj")]
        core = traced.graph.call_module(f"{name}.core", tuple(heads))
        output = traced.graph.call_module(f"{name}.out_proj", (core,))
    for user in list(node.users):
        if user.args[1] == 0:
            user.replace_all_uses_with(output)
        traced.graph.erase_node(user)
    traced.graph.erase_node(node)


def _projections(module: nn.MultiheadAttention) -> dict[str, nn.Module]:
    """Linear layers with the attention's weights."""
    weights = [*module.in_proj_weight.chunk(3), module.out_proj.weight]
    has_bias = module.in_proj_bias is not None
    biases = [*module.in_proj_bias.chunk(3), module.out_proj.bias] if has_bias else [None] * 4
    layers: dict[str, nn.Module] = {}
    for part, weight, bias in zip(("q_proj", "k_proj", "v_proj", "out_proj"), weights, biases, strict=True):
        layer = nn.Linear(module.embed_dim, module.embed_dim, bias=has_bias, device="meta")
        layer.weight = nn.Parameter(weight.detach().clone())
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone())
        layers[part] = layer
    return layers


def keep_residuals_float(traced: GraphModule) -> list[str]:
    """Leave in float what is summed up on the way to a layer norm. Returns the names of modules to leave in float too.

    A transformer's residual stream has a few channels or tokens that are far larger than the rest; in 8 bits the rest is lost,
    and the norm then blows up what is left (ViT-B/16: 81 % to 25 %, field study 2.2; with an all-zero class token even NaN).
    """
    modules = []
    for node in _before_norms(traced):
        if node.op == "call_module":
            modules.append(str(node.target))
        elif node.target in _ARITHMETIC:
            keep_call_float(traced, node)
    traced.recompile()
    return sorted(set(modules))


def keep_modules_float(traced: GraphModule, names: Iterable[str]) -> None:
    """Hide layers without an int8 form of weights (norms, activations, pooling) from torch.ao, where these names call them.

    Telling it to leave them in float is not enough: between two int8 layers it takes them to int8 all the same.
    """
    wanted = set(names)
    for target in {str(node.target) for node in _module_calls(traced)} & wanted:
        module = traced.get_submodule(target)
        is_layer = type(module).__module__.startswith("torch.nn") and next(module.children(), None) is None
        if is_layer and not isinstance(module, _WEIGHTED):
            traced.set_submodule(target, FloatOperation(module))


def keep_call_float(traced: GraphModule, node: Node) -> None:
    """Leave one call of a function in float, whatever becomes of others."""
    assert callable(node.target)
    name = f"float_{node.name}"
    traced.add_submodule(name, FloatOperation(node.target))
    with traced.graph.inserting_before(node):
        node.replace_all_uses_with(traced.graph.call_module(name, node.args, node.kwargs))
    traced.graph.erase_node(node)


def _before_norms(traced: GraphModule) -> list[Node]:
    """Nodes between the last layers with weights and a layer norm, in the order of the graph."""
    found: set[Node] = set()
    pending = [source for node in traced.graph.nodes if _is_norm(traced, node) for source in node.all_input_nodes[:1]]
    while pending:
        node = pending.pop()
        if node in found or node.op in ("placeholder", "get_attr") or _has_weights(traced, node):
            continue
        found.add(node)
        # what else goes into a reshape or a pooling is sizes
        pending.extend(node.all_input_nodes if node.target in _ARITHMETIC else node.all_input_nodes[:1])
    return [node for node in traced.graph.nodes if node in found]


def _is_norm(traced: GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), _ROW_NORMS)
    return node.op == "call_function" and node.target in (F.layer_norm, F.rms_norm)


def _has_weights(traced: GraphModule, node: Node) -> bool:
    if node.op != "call_module":
        return False
    module = traced.get_submodule(str(node.target))
    return isinstance(module, LEFT_IN_FLOAT) or next(module.parameters(), None) is not None
