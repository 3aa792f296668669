"""Operators that look at many numbers of a channel or at many channels: norms, pools, sums, softmax."""

from typing import Any

from torch import Tensor

from dlkit.prune.dependency.matmuls import channel_vector
from dlkit.prune.dependency.tracer import Tracer
from dlkit.prune.dependency.union_find import FREE, compact, varying_dims

BATCH_NORMS = frozenset(
    {"native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
     "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update"}
)  # fmt: skip
POOLS = frozenset(
    {
        *(f"{kind}{rank}d" for kind in ("avg_pool", "adaptive_avg_pool", "_adaptive_avg_pool") for rank in (1, 2, 3)),
        *(f"{kind}{rank}d_with_indices" for kind in ("max_pool",) for rank in (1, 2, 3)),
        *(f"{kind}{rank}d" for kind in ("max_pool", "adaptive_max_pool", "fractional_max_pool") for rank in (1, 2, 3)),
        *(
            f"upsample_{kind}"
            for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d")
        ),
        *(f"upsample_{kind}" for kind in ("trilinear3d", "_nearest_exact1d", "_nearest_exact2d")),
        "_upsample_bilinear2d_aa",
        "_upsample_bicubic2d_aa",
    }
)
_SUMS = frozenset({"sum", "linalg_vector_norm", "norm"})
REDUCTIONS = _SUMS | {
    "mean",
    "amax",
    "amin",
    "max",
    "min",
    "var",
    "std",
    "var_mean",
    "prod",
    "logsumexp",
    "argmax",
    "argmin",
}
SOFTMAXES = frozenset({"_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax"})


def follow_batch_norm(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Batch norm of (N, C, ...): weight, bias and running statistics belong to the channels along dimension 1."""
    x, stored = args[0], args[1:5]
    if 1 not in varying_dims(tracer.labels(x)) and varying_dims(tracer.labels(x)):
        _pass_positions(tracer, x, [tensor for tensor in stored if isinstance(tensor, Tensor)], out[0])
        return
    inputs = channel_vector(tracer, x, dim=1)
    for tensor in stored:
        if isinstance(tensor, Tensor):
            _couple(tracer, tensor, inputs)
    vanishes = args[1] is not None
    why = "" if vanishes else "batch norm without weight and bias"
    tracer.put(out[0], inputs.reshape(1, -1, *[1] * (x.dim() - 2)), vanishes=vanishes, why=why)


def follow_group_norm(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """aten::native_group_norm(input, weight, bias, N, C, HxW, group, eps): every group must keep as many channels."""
    x, weight, bias, num_groups = args[0], args[1], args[2], args[6]
    inputs = channel_vector(tracer, x, dim=1)
    for tensor in (weight, bias):
        if tensor is not None:
            _couple(tracer, tensor, inputs)
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
    """A norm over positions lets the channels through and keeps its own sizes."""
    for tensor in stored:
        tracer.fix_tensor(tensor, "a norm over positions, not channels")
    tracer.put(out, tracer.labels(x), vanishes=False, why="a norm over positions")


def _couple(tracer: Tracer, tensor: Tensor, inputs: Tensor) -> None:
    nodes = tracer.side_nodes(tensor, 0)
    if nodes is None:
        tracer.fix(inputs, "its norm's weights are computed from other values")
        return
    tracer.classes.join(nodes, inputs)
    tracer.fix(nodes[inputs == FREE], "norms channels that no layer computes")


def follow_pool(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Pools and interpolation over the dimensions behind batch and channels."""
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
    """Sums, means and extremes. Over places of one channel they keep it; over channels they mix them."""
    x = args[0]
    named = bound_arguments(op, args, kwargs)
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


def follow_softmax(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    """Softmax along a dimension; over channels it depends on all of them."""
    labels = tracer.labels(args[0])
    if args[1] % labels.dim() in varying_dims(labels):
        tracer.mix(labels, "softmax over channels")
    tracer.put(out, labels, vanishes=False, why="softmax")


def follow_glu(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    """Gated linear unit: the halves of a dimension belong together."""
    dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    values, gates = tracer.labels(args[0]).chunk(2, dim)
    tracer.classes.join(values, gates)
    known = tracer.channels(args[0])
    tracer.put(out, compact(values), vanishes=known.vanishes, why=known.why)


def follow_embedding(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    """Rows of a table (entries, width), picked by whole numbers."""
    width = tracer.side_nodes(args[0], 1, part="makes")
    if width is None:
        tracer.fix_tensor(args[0], "an embedding that is computed from other values")
        return
    tracer.fix(tracer.side_nodes(args[0], 0), "the entries of an embedding")
    tracer.put(out, width, vanishes=True)


def bound_arguments(op: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """An operator's arguments by the names of its schema, defaults included."""
    schema = op._schema.arguments
    values: dict[str, Any] = {
        argument.name: argument.default_value for argument in schema if argument.has_default_value()
    }
    values |= {argument.name: value for argument, value in zip(schema, args, strict=False)}
    values |= kwargs
    return values
