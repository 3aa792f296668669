"""Multiply-accumulates of single operators, and which operators have none.

A MAC is one multiplication added to a sum: convolutions and matrix products, also those inside attention. Operators
that act number by number, copy, compare, normalize, pool or interpolate count as none, as in papers. Everything else
has no formula here and is listed by name, so that it cannot pass for zero.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Formula = Callable[..., int]


def _convolution(x: Tensor, weight: Tensor, *rest: Any, out: Tensor) -> int:
    is_transposed = bool(rest[4])
    places = x.shape[2:] if is_transposed else out.shape[2:]
    return x.shape[0] * prod(places) * weight.numel()


def _product(a: Tensor, b: Tensor, *rest: Any, out: Tensor) -> int:
    return a.numel() * b.shape[-1] if b.dim() > 1 else a.numel()


def _added_product(start: Tensor, a: Tensor, b: Tensor, *rest: Any, out: Tensor) -> int:
    return _product(a, b, out=out)


def _linear(x: Tensor, weight: Tensor, *rest: Any, out: Tensor) -> int:
    return out.numel() * weight.shape[-1]


def _attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, out: Any) -> int:
    # scores: queries x keys x width; then scores x values: queries x keys x width of values
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _deformable_convolution(x: Tensor, weight: Tensor, *rest: Any, out: Tensor) -> int:
    return x.shape[0] * prod(out.shape[2:]) * weight.numel()


FORMULAS: dict[str, Formula] = {
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::mv": _product,
    "aten::dot": _product,
    "aten::vdot": _product,
    "aten::addmm": _added_product,
    "aten::_addmm_activation": _added_product,
    "aten::baddbmm": _added_product,
    "aten::addbmm": _added_product,
    "aten::addmv": _added_product,
    "aten::linear": _linear,
    "aten::scaled_dot_product_attention": _attention,
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
    "aten::_scaled_dot_product_cudnn_attention": _attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
    "torchvision::deform_conv2d": _deformable_convolution,
}

_FREE_PREFIXES = (
    *("aten::upsample_", "aten::_upsample_", "aten::max_pool", "aten::avg_pool", "aten::adaptive_", "aten::_adaptive_"),
    *("aten::max_unpool", "aten::fractional_max_pool", "aten::reflection_pad", "aten::replication_pad", "aten::new_"),
    *("aten::empty", "aten::zeros", "aten::ones", "aten::full", "aten::rand", "aten::bernoulli", "aten::normal"),
    *("aten::native_batch_norm", "aten::_native_batch_norm", "aten::native_layer_norm", "aten::native_group_norm"),
    *("aten::batch_norm", "aten::_batch_norm", "aten::_fused_rms_norm", "aten::native_dropout", "aten::uniform"),
    *("aten::_softmax", "aten::_log_softmax", "aten::_safe_softmax", "aten::index", "aten::scatter", "aten::arange"),
    *("aten::unsafe_", "prims::", "profiler::"),
)
_FREE = frozenset(
    f"aten::{name}"
    for name in (
        *("cat", "stack", "clone", "copy_", "_to_copy", "_unsafe_view", "fill_", "zero_", "constant_pad_nd", "roll"),
        *("flip", "gather", "embedding", "embedding_bag", "_embedding_bag", "masked_fill_", "masked_select", "repeat"),
        *("topk", "sort", "argsort", "im2col", "col2im", "channel_shuffle", "native_channel_shuffle", "pixel_shuffle"),
        *("pixel_unshuffle", "linspace", "scalar_tensor", "lift_fresh_copy", "lift_fresh", "one_hot", "tril", "triu"),
        *("hardswish", "hardswish_", "hardsigmoid_", "hardtanh_", "hardtanh", "relu6", "prelu", "_prelu_kernel"),
        *("rrelu_with_noise", "glu", "mish", "mish_", "cumsum", "cumprod", "bucketize", "searchsorted", "nonzero"),
        *("_local_scalar_dense", "grid_sampler_2d", "grid_sampler_3d", "unfold", "max", "min", "std", "var", "aminmax"),
        *("repeat_interleave", "resize_", "set_", "detach_", "as_strided_", "_reshape_copy", "_unsafe_index", "unique"),
        *("dropout", "dropout_", "feature_dropout", "alpha_dropout", "detach", "split_with_sizes_copy", "_pack"),
        *("_pack_padded_sequence", "_pad_packed_sequence", "median", "kthvalue", "sum", "mean", "argmax", "argmin"),
    )
)


_WITH_WEIGHT = frozenset(
    {"aten::convolution", "aten::_convolution", "aten::linear", "torchvision::deform_conv2d"}
)  # their second operand is a weight, also one that is computed


def multiplied_activations(op: Any, args: Sequence[Any]) -> tuple[Any, Any] | None:
    """The two operands that an operator multiplies with each other; None where one of them is a weight by its place."""
    name = op.name().split(".")[0]
    if name in _WITH_WEIGHT or len(args) < 2:
        return None
    return (args[1], args[2]) if FORMULAS.get(name) is _added_product else (args[0], args[1])


def count_macs(op: Any, args: Sequence[Any], out: Any) -> int | None:
    """MACs of one call of an operator: 0 where it has none, None where no formula is known."""
    name = op.name().split(".")[0]
    formula = FORMULAS.get(name)
    if formula is not None:
        return formula(*args, out=out)
    return 0 if is_free(op) else None


def is_free(op: Any) -> bool:
    """Whether an operator has no multiply-accumulates worth counting."""
    name = op.name().split(".")[0]
    tags = {torch.Tag.pointwise, *([torch.Tag.reduction] if hasattr(torch.Tag, "reduction") else [])}
    is_view = op.is_view or torch.Tag.inplace_view in op.tags
    return is_view or bool(tags & set(op.tags)) or name in _FREE or name.startswith(_FREE_PREFIXES)
