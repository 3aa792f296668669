"""What an operator's output sees, given what its inputs see: one rule per operator of torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dlkit.core.profile.field_axes import (
    Atoms,
    Seen,
    at_every,
    everything,
    joined,
    lost,
    regrouped,
    through_taps,
    without_axis,
)
from dlkit.shapes import Taps, Upsample, adaptive_taps, transposed_taps, window_taps


@dataclass(frozen=True)
class Call:
    """One call of an operator. `seen_args` has what each argument sees (None for other things), `parts` only those.

    `out` is one tensor of its result, the `position`-th.
    """

    name: str
    args: tuple[Any, ...]
    seen_args: Sequence[Any]
    parts: Sequence[Seen]
    out: Tensor
    position: int


Rule = Callable[[Call], Seen]


def number_by_number(call: Call) -> Seen:
    """Activations, sums, products: each output position sees what the inputs at its place see."""
    return joined(call.parts, call.out.shape, call.name)


def _first_only(call: Call) -> Seen:
    """Norms in evaluation, copies: the first output sees what the first input sees; statistics see everything."""
    first: Seen | None = call.seen_args[0]
    return first if first is not None and tuple(call.out.shape) == first.shape else everything(call.out.shape)


def _pair(values: Any, index: int, dims: int, default: int | None = None) -> int:
    values = [values] if isinstance(values, int) else list(values)
    if not values and default is not None:
        return default
    return int(values[index] if len(values) == dims else values[0])


def _convolution(call: Call) -> Seen:
    x, weight, _, stride, padding, dilation, is_transposed = call.args[:7]
    if call.seen_args[0] is None:
        return lost(call.out.shape, call.name)
    dims = x.dim() - 2
    build = transposed_taps if is_transposed else window_taps
    taps = [
        build(
            kernel=int(weight.shape[2 + axis]),
            stride=_pair(stride, axis, dims),
            pad=_pair(padding, axis, dims),
            dilation=_pair(dilation, axis, dims),
        )
        for axis in range(dims)
    ]
    return through_taps(call.seen_args[0], taps, call.out.shape, call.name)


def _pool(call: Call) -> Seen:
    dims = 3 if "3d" in call.name else 2 if "2d" in call.name else 1
    defaults: tuple[Any, ...] = ((), 0, 1)
    kernel, stride, padding, dilation = (*call.args[1:5], *defaults[len(call.args[1:5]) - 1 :])
    has_dilation = call.name.startswith("max")  # average pooling has ceil_mode in that place
    taps = [
        window_taps(
            kernel=_pair(kernel, axis, dims),
            stride=_pair(stride, axis, dims, default=_pair(kernel, axis, dims)),
            pad=_pair(padding, axis, dims),
            dilation=_pair(dilation, axis, dims) if has_dilation else 1,
        )
        for axis in range(dims)
    ]
    return through_taps(call.parts[0], taps, call.out.shape, call.name)


def _adaptive(call: Call) -> Seen:
    dims = 3 if "3d" in call.name else 2 if "2d" in call.name else 1
    pairs = zip(call.args[0].shape[-dims:], call.out.shape[-dims:], strict=True)
    taps = [adaptive_taps(int(size), int(wanted)) for size, wanted in pairs]
    return through_taps(call.parts[0], taps, call.out.shape, call.name)


_MODES = {"nearest": "nearest", "linear1d": "linear", "bilinear2d": "bilinear", "trilinear3d": "trilinear"}
_MODES |= {"bicubic2d": "bicubic", "nearest_exact": "nearest-exact"}


def _upsample(call: Call) -> Seen:
    mode = next(mode for key, mode in _MODES.items() if key in call.name.replace("nearest_exact", "exact"))
    dims = call.args[0].dim() - 2
    is_aligned = "linear" in mode or "cubic" in mode
    is_aligned = is_aligned and len(call.args) > 2 and call.args[2] is True  # align_corners, in every overload
    taps = []
    for axis in range(dims):
        size, wanted = int(call.args[0].shape[2 + axis]), int(call.out.shape[2 + axis])
        layer = Upsample(dims, size=(wanted,) * dims, mode=mode, align_corners=is_aligned)
        taps.append(layer.taps(axis, size))
    return through_taps(call.parts[0], taps, call.out.shape, call.name)


def _reshape(call: Call) -> Seen:
    return regrouped(call.parts[0], call.out.shape, call.name)


def _permute(call: Call) -> Seen:
    axes, count = call.parts[0].axes, len(call.parts[0].axes)
    order = list(range(count))
    if call.name == "permute":
        order = [dim % count for dim in call.args[1]]
    else:
        one, other = (0, 1) if call.name == "t" else (call.args[1] % count, call.args[2] % count)
        if count > 1:
            order[one], order[other] = order[other], order[one]
    return Seen(tuple(axes[dim] for dim in order))


def _mean(call: Call) -> Seen:
    """A reduction: over channels the places stay, over places all is seen."""
    seen, count = call.parts[0], len(call.parts[0].axes)
    dims = call.args[1] if len(call.args) > 1 and call.args[1] is not None else range(count)
    reduced = sorted({int(dim) % count for dim in ([dims] if isinstance(dims, int) else dims)}, reverse=True)
    if any(seen.has_place(dim) for dim in reduced) or not reduced:
        return everything(call.out.shape)
    axes: list[Atoms] = list(seen.axes)
    for dim in reduced:
        axes[dim : dim + 1] = [((1, None),)] if call.out.dim() == count else []
    return Seen(tuple(axes))


def _cat(call: Call) -> Seen:
    dim = (call.args[1] if len(call.args) > 1 else 0) % call.out.dim()
    if any(part.has_place(dim) for part in call.parts):
        return lost(call.out.shape, call.name)
    whole_axes = [without_axis(part, dim) for part in call.parts]
    merged = joined(whole_axes, [*call.out.shape[:dim], *call.out.shape[dim + 1 :]], call.name)
    if merged.lost_at:
        return lost(call.out.shape, call.name)
    return Seen((*merged.axes[:dim], ((int(call.out.shape[dim]), None),), *merged.axes[dim:]))


def _slice(call: Call) -> Seen:
    seen = call.parts[0]
    defaults: tuple[Any, ...] = (None, 0, None, None, 1)
    _, dim, start, _, step = (*call.args, *defaults[len(call.args) :])
    dim, start = int(dim) % len(seen.axes), int(start or 0)
    axes = list(seen.axes)
    if not seen.has_place(dim):
        axes[dim] = ((int(call.out.shape[dim]), None),)
        return Seen(tuple(axes))
    if len(axes[dim]) > 1:
        return seen if tuple(call.out.shape) == seen.shape else lost(call.out.shape, call.name)
    size, view = axes[dim][0]
    assert view is not None
    first = max(0, start + (size if start < 0 else 0))
    axes[dim] = ((int(call.out.shape[dim]), (view[0], at_every(view[1], first, int(step)))),)
    return Seen(tuple(axes))


def _drop(call: Call) -> Seen:
    """select and split: along channels the places stay."""
    seen = call.parts[0]
    dim = call.args[1] if call.name == "select" else call.args[2] if len(call.args) > 2 else 0
    dim = int(dim) % len(seen.axes)
    if seen.has_place(dim):
        return lost(call.out.shape, call.name)
    if call.name == "select":
        return without_axis(seen, dim)
    return Seen((*seen.axes[:dim], ((int(call.out.shape[dim]), None),), *seen.axes[dim + 1 :]))


def _pad(call: Call) -> Seen:
    count = len(call.args[1]) // 2
    taps = [Taps(((-int(call.args[1][2 * (count - 1 - axis)]),),), 1) for axis in range(count)]
    return through_taps(call.parts[0], taps, call.out.shape, call.name)


def _over_dim(call: Call) -> Seen:
    """softmax: over places all is seen."""
    dim = int(call.args[1]) % len(call.parts[0].axes)
    return everything(call.out.shape) if call.parts[0].has_place(dim) else call.parts[0]


def _layer_norm(call: Call) -> Seen:
    seen = call.seen_args[0]
    if call.position or seen is None:
        return everything(call.out.shape)
    over = range(len(seen.axes) - len(call.args[1]), len(seen.axes))
    return everything(call.out.shape) if any(seen.has_place(dim) for dim in over) else seen


def _group_norm(call: Call) -> Seen:
    return everything(call.out.shape)


def _product(call: Call) -> Seen:
    """A matrix product: rows keep their places, a sum over places sees everything, as attention does."""
    left, right = call.seen_args[1:3] if call.name.startswith(("addmm", "baddbmm")) else call.seen_args[:2]
    if left is None or (right is not None and any(map(right.has_place, range(len(right.axes))))):
        return everything(call.out.shape)
    if left.has_place(len(left.axes) - 1):
        return everything(call.out.shape)
    return Seen((*left.axes[:-1], ((int(call.out.shape[-1]), None),)))


RULES: dict[str, Rule] = {
    "convolution": _convolution,
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"), _first_only),
    **dict.fromkeys(("clone", "_to_copy", "copy", "detach", "alias", "dropout", "native_dropout"), _first_only),
    **dict.fromkeys(("contiguous", "hardswish", "hardtanh", "prelu", "_prelu_kernel", "mish"), _first_only),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d", "max_pool2d"), _pool),
    **dict.fromkeys(("max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"), _pool),
    **dict.fromkeys(("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d"), _adaptive),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_max_pool3d"), _adaptive),
    **{
        f"{head}upsample_{key}{tail}": _upsample
        for head in ("", "_")
        for key in _MODES
        for tail in ("", "1d", "2d", "3d")
    },
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_copy", "unsqueeze", "squeeze"), _reshape),
    **dict.fromkeys(("permute", "transpose", "t"), _permute),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "linalg_vector_norm", "var", "std"), _mean),
    "cat": _cat,
    "slice": _slice,
    **dict.fromkeys(("select", "split", "split_with_sizes", "unsafe_split"), _drop),
    "expand": number_by_number,
    "constant_pad_nd": _pad,
    **dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax"), _over_dim),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _product),
}
