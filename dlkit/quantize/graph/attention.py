"""Attention taken apart, so that its projections are linear layers that can be int8. What lies between them stays in float."""

import inspect
import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from dlkit.quantize.graph.operations import attribute_of, drop_unread

WINDOWED = "shifted_window_attention"  # torchvision's Swin, which hides it from torch.fx


class AttentionCore(nn.Module):
    """Attention without its projections: queries, keys and values side by side (N, L, 3 E), or (L, N, 3 E) if not `batch_first`,
    to (N, L, E) or (L, N, E); without N where the input has none.
    """

    def __init__(self, num_heads: int, dropout: float, *, batch_first: bool) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.batch_first = num_heads, dropout, batch_first

    def forward(self, projected: Tensor) -> Tensor:
        """The heads' outputs side by side."""
        if projected.dim() == 2:
            axis = 0 if self.batch_first else 1
            return self.forward(projected.unsqueeze(axis)).squeeze(axis)
        projected = projected if self.batch_first else projected.transpose(0, 1)
        heads = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # type: ignore[no-untyped-call]
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], dropout_p=dropout)
        out = out.transpose(1, 2).flatten(2)
        return out if self.batch_first else out.transpose(0, 1)


class WindowAttentionCore(nn.Module):
    """Attention inside windows of an image, without its projections (Liu et al. 2021, arXiv:2103.14030): (N, H, W, 3 C) to (N, H, W, C).

    Every other layer shifts the image by half a window before and back afterwards; what the shift brings together from both ends is
    kept apart by a mask. An image that windows do not cover is padded with zeros in front of the projection, which is
    its `bias` behind it. With `logit_scale` queries and keys are compared by their angle (version 2, arXiv:2111.09883).
    """

    bias: Tensor | None

    def __init__(
        self, window: list[int], shift: list[int], num_heads: int, dropout: float, bias: Tensor | None
    ) -> None:
        super().__init__()
        self.window, self.shift, self.num_heads, self.dropout = tuple(window), tuple(shift), num_heads, dropout
        self.register_buffer("bias", None if bias is None else bias.detach(), persistent=False)

    def forward(self, projected: Tensor, position_bias: Tensor, logit_scale: Tensor | None = None) -> Tensor:
        """The heads' outputs side by side."""
        _, height, width, _ = projected.shape
        (rows, columns), windows = self.window, self._padded(projected)
        size = windows.shape[1:3]
        shift = [0 if window >= side else by for window, side, by in zip(self.window, size, self.shift, strict=True)]
        windows = windows.roll([-by for by in shift], (1, 2)) if any(shift) else windows
        windows = windows.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).transpose(2, 3)  # type: ignore[no-untyped-call]
        heads = windows.flatten(3, 4).unflatten(-1, (3, self.num_heads, -1)).permute(4, 0, 1, 2, 5, 3, 6)
        query, key, value = heads.unbind()  # (N, H / rows, W / columns, heads, places, channels)
        if logit_scale is None:
            weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        else:
            scale = logit_scale.clamp(max=math.log(100.0)).exp()
            weights = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1) * scale
        weights = weights + position_bias
        if any(shift):
            weights = weights + self._mask(projected, size, shift)
        weights = F.dropout(weights.softmax(-1), self.dropout, self.training)
        out = (weights @ value).transpose(3, 4).flatten(4).unflatten(3, (rows, columns))
        out = out.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        out = out.roll(shift, (1, 2)) if any(shift) else out
        result: Tensor = out[:, :height, :width].contiguous()
        return result

    def _padded(self, projected: Tensor) -> Tensor:
        sides = [-size % window for size, window in zip(projected.shape[1:3], self.window, strict=True)]
        if not any(sides):
            return projected
        padded = F.pad(projected, (0, 0, 0, sides[1], 0, sides[0]))
        if self.bias is not None:
            padded[:, projected.shape[1] :] = self.bias
            padded[:, :, projected.shape[2] :] = self.bias
        return padded

    def _mask(self, like: Tensor, size: Any, shift: list[int]) -> Tensor:
        """-100 for pairs of places that are no neighbours without the shift, else 0: (H / rows, W / columns, 1, places, places)."""
        parts = like.new_zeros(size)
        for axis, (window, by) in enumerate(zip(self.window, shift, strict=True)):
            if by:
                parts.narrow(axis, size[axis] - window, window).add_(3**axis)
                parts.narrow(axis, size[axis] - by, by).add_(3**axis)
        rows, columns = self.window
        parts = parts.unflatten(1, (-1, columns)).unflatten(0, (-1, rows)).transpose(1, 2).flatten(2)  # type: ignore[no-untyped-call]
        return torch.where(parts.unsqueeze(2) != parts.unsqueeze(3), -100.0, 0.0).unsqueeze(2)


def split_attention(traced: GraphModule, *, is_trained: bool) -> list[str]:
    """Take self-attention apart, so that its projections are linear layers that can be int8. Returns its names.

    Only where the call is plain: one input for queries, keys and values, no masks, and weights that nobody asks for.
    """
    names = []
    for node in list(traced.graph.nodes):
        if node.op == "call_function" and getattr(node.target, "__name__", "") == WINDOWED:
            names += _split_windows(traced, node, is_trained=is_trained)
        elif node.op == "call_module":
            module = traced.get_submodule(str(node.target))
            if type(module) is nn.MultiheadAttention and _is_plain_self_attention(node, module):
                _split(traced, node, module)
                names.append(str(node.target))
    drop_unread(traced)
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
    core = AttentionCore(module.num_heads, module.dropout, batch_first=module.batch_first)
    parts = {
        "in_proj": _linear(module.in_proj_weight, module.in_proj_bias),
        "core": core,
        "out_proj": _linear(module.out_proj.weight, module.out_proj.bias),
    }
    source = node.args[0] if node.args else node.kwargs["query"]
    output = _write(traced, node, str(node.target), parts, source, ())
    for user in list(node.users):
        if user.args[1] == 0:
            user.replace_all_uses_with(output)
        traced.graph.erase_node(user)
    traced.graph.erase_node(node)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight.detach())
    if bias is not None:
        layer.bias = bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias.detach())
    return layer


def _write(
    traced: GraphModule, node: Node, name: str, parts: dict[str, nn.Module], source: Any, more: tuple[Any, ...]
) -> Node:
    """Put the parts in the place of a module, and calls of them in front of the node."""
    container = nn.Module()
    for part, layer in parts.items():
        container.add_module(part, layer.train(traced.training))
    traced.set_submodule(name, container)
    with traced.graph.inserting_before(node):
        projected = traced.graph.call_module(f"{name}.in_proj", (source,))
        core = traced.graph.call_module(f"{name}.core", (projected, *more))
        return traced.graph.call_module(f"{name}.out_proj", (core,))


def _split_windows(traced: GraphModule, node: Node, *, is_trained: bool) -> list[str]:
    """The same for torchvision's Swin; its name, or none where the call cannot be split."""
    assert callable(node.target)
    given = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    given.apply_defaults()
    call: dict[str, Any] = given.arguments
    weight = call["qkv_weight"]
    if not isinstance(weight, Node) or weight.op != "get_attr" or (is_trained and call["logit_scale"] is not None):
        return []  # version 2 has biases of keys that must not train
    name = str(weight.target).rpartition(".")[0].rpartition(".")[0]
    keys = ("qkv_weight", "qkv_bias", "proj_weight", "proj_bias")
    values: dict[str, Any] = {key: None if call[key] is None else attribute_of(traced, call[key]) for key in keys}
    bias = values["qkv_bias"]
    if call["logit_scale"] is not None and bias is not None:
        bias = bias.detach().clone()
        bias[len(bias) // 3 : 2 * len(bias) // 3] = 0
    dropout = float(call["attention_dropout"])
    core = WindowAttentionCore(call["window_size"], call["shift_size"], call["num_heads"], dropout, bias)
    parts = {
        "in_proj": _linear(values["qkv_weight"], bias),
        "core": core,
        "out_proj": _linear(values["proj_weight"], values["proj_bias"]),
    }
    scale = () if call["logit_scale"] is None else (call["logit_scale"],)
    owner = traced.get_submodule(name)
    kept = {key: module for key, module in owner.named_children() if key not in ("qkv", "proj")}
    tensors = dict(owner.named_parameters(recurse=False)) | dict(owner.named_buffers(recurse=False))
    output = _write(traced, node, name, parts, call["input"], (call["relative_position_bias"], *scale))
    _keep(traced.get_submodule(name), kept, tensors)
    node.replace_all_uses_with(output)
    traced.graph.erase_node(node)
    for read in [call[key] for key in values if isinstance(call[key], Node)]:
        traced.graph.erase_node(read)  # what it read has gone into the projections
    return [name]


def _keep(container: nn.Module, modules: dict[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    """What else the attention owned, such as its table of position biases, under the same names."""
    for key, module in modules.items():
        container.add_module(key, module)
    for key, tensor in tensors.items():
        if isinstance(tensor, nn.Parameter):
            container.register_parameter(key, tensor)
        else:
            container.register_buffer(key, tensor)
