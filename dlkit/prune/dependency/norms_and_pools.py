"""Following operators that combine many numbers of a channel, or many channels: norms, pools, reductions, softmax."""

from typing import Any

from torch import Tensor

from dlkit.prune.dependency.tracer import Tracer
from dlkit.prune.dependency.union_find import FREE, varying_dims

BATCH_NORMS = frozenset(
    {"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
     "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update"}
)  # fmt: skip
POOLS = frozenset(
    {
        *(f"{kind}_pool{rank}d" for kind in ("avg", "adaptive_avg", "_adaptive_avg") for rank in (1, 2, 3)),
        *(f"{kind}_pool{rank}d" for kind in ("max", "adaptive_max", "fractional_max") for rank in (1, 2, 3)),
        *(f"max_pool{rank}d_with_indices" for rank in (1, 2, 3)),
        *(
            f"upsample_{kind}"
            for kind in ("nearest1d", "nearest2d", "nearest3d", "_nearest_exact1d", "_nearest_exact2d")
        ),
        *(f"upsample_{kind}" for kind in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
        "_upsample_bilinear2d_aa",
        "_upsample_bicubic2d_aa",
    }
)
_SUMS = frozenset({"sum", "linalg_vector_norm", "norm"})
REDUCTIONS = _SUMS | frozenset(
    {"mean", "amax", "amin", "max", "min", "var", "std", "var_mean", "prod", "logsumexp", "argmax", "argmin"}
)
SOFTMAXES = frozenset({"_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax"})


def follow_batch_norm(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Batch norm of (N, C, ...): weight, bias and running statistics belong to the channels along dimension 1."""
    x, stored = args[0], args[1:5]
    if 1 not in varying_dims(tracer.labels(x)) and varying_dims(tracer.labels(x)):
        _pass_positions(tracer, x, [tensor for tensor in stored if isinstance(tensor, Tensor)], out[0])
        return
    inputs = tracer.channel_nodes(x, dim=1)
    for tensor in stored:
        if isinstance(tensor, Tensor):
            _join_stored(tracer, tensor, inputs)
    vanishes = args[1] is not None
    why = "" if vanishes else "batch norm without weight and bias"
    tracer.put(out[0], inputs.reshape(1, -1, *[1] * (x.dim() - 2)), vanishes=vanishes, why=why)


def follow_group_norm(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """aten::native_group_norm(input, weight, bias, N, C, HxW, group, eps): every group must keep as many channels."""
    x, weight, bias, num_groups = args[0], args[1], args[2], args[6]
    inputs = tracer.channel_nodes(x, dim=1)
    for tensor in (weight, bias):
        if tensor is not None:
            _join_stored(tracer, tensor, inputs)
    if num_groups > 1:
        tracer.part(inputs.reshape(num_groups, -1))
    if num_groups < len(inputs):
        tracer.mix(inputs, "group norm's statistics go over channels")
    vanishes = weight is not None
    why = "" if vanishes else "group norm without weight and bias"
    tracer.put(out[0], inputs.reshape(1, -1, *[1] * (x.dim() - 2)), vanishes=vanishes, why=why)


def follow_layer_norm(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """aten::native_layer_norm(input, normalized_shape, weight, bias, eps), over the last dimensions."""
    x, shape, stored = args[0], args[1], [tensor for tensor in args[2:4] if tensor is not None]
    labels = tracer.labels(x)
    first = x.dim() - len(shape)
    if varying_dims(labels) and not any(dim >= first for dim in varying_dims(labels)):
        _pass_positions(tracer, x, stored, out[0])
        return
    one = labels[(slice(0, 1),) * first]
    tracer.classes.join(labels, one)
    for tensor in stored:
        tracer.classes.join(tracer.labels(tensor), one.reshape(tuple(shape)))
        tracer.fix(tracer.labels(tensor)[one.reshape(tuple(shape)) == FREE], "norms values that no layer computes")
    tracer.mix(labels, "layer norm's statistics go over channels")
    vanishes = args[2] is not None
    tracer.put(out[0], labels, vanishes=vanishes, why="" if vanishes else "layer norm without weight")


def _pass_positions(tracer: Tracer, x: Tensor, stored: list[Tensor], out: Tensor) -> None:
    """A norm over positions: the channels pass through, and its own sizes stay."""
    for tensor in stored:
        tracer.fix_tensor(tensor, "a norm over positions, not channels")
    tracer.put(out, tracer.labels(x), vanishes=False, why="a norm over positions")


def _join_stored(tracer: Tracer, tensor: Tensor, inputs: Tensor) -> None:
    """Join a norm's parameter or buffer with the channels that it scales, shifts or describes."""
    nodes = tracer.side_nodes(tensor, 0)
    if nodes is None:
        tracer.fix(inputs, "its norm's weights are computed from other values")
        return
    tracer.classes.join(nodes, inputs)
    tracer.fix(nodes[inputs == FREE], "norms channels that no layer computes")


def follow_pool(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Pooling and interpolation over the dimensions behind batch and channels."""
    x, result = args[0], out[0] if isinstance(out, tuple) else out
    labels = tracer.labels(x)
    rank = int(next(digit for digit in name if digit.isdigit()))
    spatial = tuple(range(x.dim() - rank, x.dim()))
    if any(dim in spatial for dim in varying_dims(labels)):
        for dim in spatial:
            tracer.classes.join(labels, labels.narrow(dim, 0, 1))
    for dim in spatial:
        labels = labels.narrow(dim, 0, 1)
    known = tracer.channels(x)
    tracer.put(result, labels, vanishes=known.vanishes, why=known.why)


def follow_reduction(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Sums, means and extremes. Over the numbers of one channel they keep it; over channels they mix them."""
    x = args[0]
    named = _bound_arguments(op, args, kwargs)
    dims = named.get("dim")
    dims = list(range(x.dim())) if dims is None or dims == [] else [dims] if isinstance(dims, int) else list(dims)
    dims = [dim % max(1, x.dim()) for dim in dims]
    labels, known = tracer.labels(x), tracer.channels(x)
    results = [tensor for tensor in (out if isinstance(out, tuple) else [out]) if isinstance(tensor, Tensor)]
    if any(dim in dims for dim in varying_dims(labels)):
        if name not in _SUMS or not known.vanishes:
            tracer.mix(labels, f"{name} over channels")
        return
    for dim in sorted(dims, reverse=True):
        labels = labels.narrow(dim, 0, 1) if named.get("keepdim") else labels.select(dim, 0)
    for result in results:
        tracer.put(result, labels, vanishes=known.vanishes and name not in ("prod", "logsumexp"), why=known.why or name)


def _bound_arguments(op: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """An operator's arguments by the names of its schema, defaults included."""
    schema = op._schema.arguments
    values: dict[str, Any] = {
        argument.name: argument.default_value for argument in schema if argument.has_default_value()
    }
    values |= {argument.name: value for argument, value in zip(schema, args, strict=False)}
    values |= kwargs
    return values


def follow_softmax(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    """Softmax along a dimension; over channels it depends on all of them."""
    labels = tracer.labels(args[0])
    if args[1] % labels.dim() in varying_dims(labels):
        tracer.mix(labels, "softmax over channels")
    tracer.put(out, labels, vanishes=False, why="softmax")
