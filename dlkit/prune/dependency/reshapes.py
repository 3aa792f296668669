"""Following operators that only move numbers: the same operator, applied to the labels, shows where each one went."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dlkit.prune.dependency.tracer import INPUT, Channels, StoredTensor, Tracer
from dlkit.prune.dependency.union_find import FREE, compact, varying_dims

RESHAPES = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias"})
RESTRIDES = frozenset({"as_strided_"})
COPIES = frozenset({"alias", "detach", "clone", "_to_copy", "contiguous", "lift_fresh", "expand_copy"})
SPLITS = frozenset(
    {"split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk", "tensor_split"}
)
JOINS = frozenset({"cat", "stack"})
PADS = frozenset({"constant_pad_nd"})
# without kernels for whole numbers; float64 holds every node exactly
FLOAT_ONLY = frozenset(
    {
        *(f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3)),
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "native_channel_shuffle",
    }
)
OTHERS = frozenset(
    {"permute", "transpose", "t", "unsqueeze", "squeeze", "select", "unbind", "roll", "flip", "index", "index_select",
     "repeat", "unfold", "diagonal", "narrow", "movedim", "expand", "slice"}
)  # fmt: skip
# they give a tensor another shape where it is; swapaxes_ and swapdims_ reach the dispatcher as transpose_
IN_PLACE = frozenset({"transpose_", "t_", "unsqueeze_", "squeeze_", "detach_"})
MOVES = RESHAPES | COPIES | SPLITS | JOINS | PADS | RESTRIDES | FLOAT_ONLY | OTHERS | IN_PLACE


def follow_move(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Label the results of an operator that only moves numbers."""
    if name in RESTRIDES:
        _follow_restride(tracer, args[0], out)
        return
    if name in JOINS:
        _follow_join(tracer, op, args, kwargs, out)
        return
    tensor = args[0]
    tracked = tracer.get(tensor)
    if tracked is None:  # only its indices are followed
        for index in args[1:]:
            for indices in index if isinstance(index, list | tuple) else [index]:
                if isinstance(indices, Tensor):
                    tracer.fix_tensor(indices, f"picks numbers in {name}")
        return
    move = _mover(name, op, args, kwargs, out)
    outs = list(out) if isinstance(out, list | tuple) else [out]
    if isinstance(tracked, StoredTensor) and name not in PADS:
        _put_stored(tracer, tracked, move, outs)
        return
    channels = tracer.channels(tensor)
    labels = tracer.labels(tensor)
    moved = move(labels)
    for result, new in zip(outs, moved if isinstance(moved, list | tuple) else [moved], strict=True):
        tracer.put(result, compact(new), vanishes=channels.vanishes, why=channels.why)
    if name in RESHAPES:
        _keep_rectangular(tracer, labels, outs[0])
    elif name in SPLITS or name == "slice":
        _keep_even(tracer, labels, outs)


def _mover(name: str, op: Any, args: Any, kwargs: Any, out: Any) -> Callable[[Tensor], Any]:
    if name in RESHAPES:
        return lambda labels: labels.reshape(out.shape)
    if name in COPIES:
        return lambda labels: labels
    if name == "expand":
        return lambda labels: labels.expand(out.shape)
    if name in PADS:
        return lambda labels: op(labels, args[1], FREE)
    if name in FLOAT_ONLY:
        return lambda labels: op(labels.double(), *args[1:], **kwargs).long()
    if name in IN_PLACE:
        return lambda labels: op(labels.view(labels.shape), *args[1:], **kwargs)  # not in the labels that are kept
    return lambda labels: op(labels, *args[1:], **kwargs)


def _put_stored(tracer: Tracer, stored: StoredTensor, move: Callable[[Tensor], Any], outs: list[Tensor]) -> None:
    moved = [move(compact(index)) for index in stored.index]
    for place, result in enumerate(outs):
        index = tuple(new[place] if isinstance(new, list | tuple) else new for new in moved)
        tracer.put_stored(result, StoredTensor(stored.name, tuple(map(compact, index))))


def _follow_join(tracer: Tracer, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    parts = [tracer.channels(tensor) for tensor in args[0]]
    labels = op([tracer.labels(tensor) for tensor in args[0]], *args[1:], **kwargs)
    # channels of the input are never removed, so those beside them may count as 0
    why = next((part.why for part in parts if part.why and part.why != INPUT), "")
    tracer.put(out, compact(labels), vanishes=all(part.vanishes or part.why == INPUT for part in parts), why=why)


def _follow_restride(tracer: Tracer, tensor: Tensor, out: Tensor) -> None:
    """Let adaptive pooling to 1x1 set the strides of its own result anew; anything else is not followed."""
    tracked = tracer.get(tensor)
    is_same = isinstance(tracked, Channels) and tracked.labels.shape == out.shape and out.squeeze().is_contiguous()
    if not is_same:
        tracer.fix_tensor(tensor, "goes through as_strided_, which is not followed")


def _keep_rectangular(tracer: Tracer, before: Tensor, out: Tensor) -> None:
    """Where one dimension of channels becomes two, join the channels along all but the longest: only whole slices can go."""
    after = tracer.labels(out)
    dims = varying_dims(after)
    if len(dims) <= max(1, len(varying_dims(before))):
        return
    kept = max(dims, key=lambda dim: (after.shape[dim], dim))
    for dim in dims:
        if dim != kept:
            tracer.classes.join(after, after.narrow(dim, 0, 1))


def _keep_even(tracer: Tracer, before: Tensor, outs: list[Tensor]) -> None:
    """Demand that equal parts of a dimension of channels stay equal, as the code will split what is left in the same way."""
    dims = varying_dims(before)
    if len(dims) != 1:
        return
    (dim,) = dims
    length, size = outs[0].shape[dim], before.shape[dim]
    if 0 < length < size and size % length == 0 and all(part.shape[dim] == length for part in outs):
        nodes = before.movedim(dim, 0).reshape(size, -1)[:, 0]
        tracer.part(nodes.reshape(-1, length))
