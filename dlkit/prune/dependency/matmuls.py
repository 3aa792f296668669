"""Following operators that turn channels into other channels: convolutions, matrix products, attention, embeddings."""

from typing import Any

from torch import Tensor

from dlkit.prune.dependency.tracer import COMPUTED, Channels, StoredTensor, Tracer
from dlkit.prune.dependency.union_find import FREE, compact, varying_dims

NOT_FOLLOWED = "is read by a grouped transposed convolution, or through a reshaped weight, which are not followed"


def follow_convolution(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    """aten::convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    x, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    is_depthwise = groups > 1 and x.shape[1] == groups
    made = tracer.side_nodes(weight, 1 if transposed else 0, part="along" if is_depthwise else "makes")
    taken = tracer.side_nodes(weight, 0 if transposed else 1, part="reads")
    inputs = tracer.channel_nodes(x, dim=1)
    if made is None or taken is None or (transposed and groups > 1):
        _stay_whole(tracer, x, weight, bias, dim=1 if transposed else 0)
        return
    if groups == 1:
        _read_channels(tracer, x, inputs, taken)
    elif is_depthwise:  # with any number of outputs for each input
        tracer.classes.join(inputs.repeat_interleave(len(made) // groups), made)
    else:
        _follow_grouped(tracer, x, weight, made, groups=groups)
    vanishes = _add_bias(tracer, bias, made)
    tracer.put(out, made.reshape(1, -1, *[1] * (out.dim() - 2)), vanishes=vanishes, why="" if vanishes else COMPUTED)


def _stay_whole(tracer: Tracer, x: Tensor, weight: Tensor, bias: Tensor | None, *, dim: int) -> None:
    """Leave a layer whole that is no case for cutting, as its weight, with outputs along `dim`, is computed."""
    is_stored = isinstance(tracer.get(weight), StoredTensor)
    reason = NOT_FOLLOWED if is_stored else tracer.keep_whole(weight, dim)
    for tensor in (x, weight, bias):
        if tensor is not None:
            tracer.fix_tensor(tensor, reason)


def _follow_grouped(tracer: Tracer, x: Tensor, weight: Tensor, made: Tensor, *, groups: int) -> None:
    """A grouped convolution, of which every group must keep as many inputs and as many outputs as the others."""
    inputs = tracer.channel_nodes(x, dim=1)
    stored = tracer.get(weight)
    assert isinstance(stored, StoredTensor)
    tracer.findings.grouped_inputs[stored.name] = inputs
    tracer.findings.readers[stored.name, 1] = None
    _report_lost_zeros(tracer, x, inputs)
    tracer.part(inputs.reshape(groups, -1))
    tracer.part(made.reshape(groups, -1))


def follow_product(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    """Matrix products, with or without something added: addmm, mm, bmm, baddbmm, addmv, mv, dot."""
    added = args[0] if name in ("addmm", "baddbmm", "addmv") else None
    left, right = args[1:3] if added is not None else args[:2]
    left_is_weight, right_is_weight = (isinstance(tracer.get(side), StoredTensor) for side in (left, right))
    has_bias = isinstance(tracer.get(added), StoredTensor)
    is_plain = added is None or (has_bias and right_is_weight)
    if has_bias and not right_is_weight and isinstance(tracer.get(left), Channels):
        _stay_whole(tracer, left, right, added, dim=1)
    elif left.dim() < 2 or right.dim() < 2 or not is_plain:
        for tensor in (left, right, added):
            if tensor is not None:
                tracer.fix_tensor(tensor, f"goes through {name}, with operands that are not followed")
    elif right_is_weight:
        _follow_linear(tracer, left, right, bias=added, out=out, is_turned=False)
    elif left_is_weight:
        _follow_linear(tracer, right, left, bias=None, out=out, is_turned=True)
    else:
        _follow_inner(tracer, left, right, out)


def _follow_linear(
    tracer: Tracer, x: Tensor, weight: Tensor, *, bias: Tensor | None, out: Tensor, is_turned: bool
) -> None:
    """x (..., M, K) times a weight (..., K, N); turned, a weight (..., N, K) times x (..., K, M)."""
    in_dim, out_dim = (-1, -2) if is_turned else (-2, -1)
    made = tracer.side_nodes(weight, weight.dim() + out_dim, part="makes")
    taken = tracer.side_nodes(weight, weight.dim() + in_dim, part="reads")
    if made is None or taken is None:
        _stay_whole(tracer, x, weight, bias, dim=out_dim)
        return
    labels = tracer.labels(x).mT if is_turned else tracer.labels(x)
    dims = varying_dims(compact(labels))
    if dims and labels.dim() - 1 not in dims and labels.shape[-1] > 1:
        _follow_positions(tracer, x, labels, made, taken, bias=bias, out=out, is_turned=is_turned)
        return
    inputs = labels.reshape(-1, labels.shape[-1])
    tracer.classes.join(inputs, inputs[:1])
    _read_channels(tracer, x, inputs[0], taken)
    vanishes = _add_bias(tracer, bias, made)
    tracer.put(out, made[:, None] if is_turned else made, vanishes=vanishes, why="" if vanishes else COMPUTED)


def _follow_positions(
    tracer: Tracer,
    x: Tensor,
    labels: Tensor,
    made: Tensor,
    taken: Tensor,
    *,
    bias: Tensor | None,
    out: Tensor,
    is_turned: bool,
) -> None:
    """A linear layer along positions, not channels: the channels pass through, and its own sizes stay."""
    for nodes in (made, taken):
        tracer.fix(nodes, "a linear layer along positions, not channels")
    through = labels[..., :1]
    known = tracer.channels(x)
    vanishes = known.vanishes and bias is None
    tracer.put(out, through.mT if is_turned else through, vanishes=vanishes, why=known.why or "a bias along positions")


def _follow_inner(tracer: Tracer, left: Tensor, right: Tensor, out: Tensor) -> None:
    """The product of two activations, as in attention: (..., M, K) times (..., K, N)."""
    first, second = tracer.labels(left), tracer.labels(right)
    rank = first.dim()
    across_first, across_second = varying_dims(first), varying_dims(second)
    if rank - 1 in across_first or rank - 2 in across_second:  # summed over channels
        tracer.classes.join(first.narrow(-2, 0, 1).mT, second.narrow(-1, 0, 1))
        tracer.classes.join(first, first.narrow(-2, 0, 1))
        tracer.classes.join(second, second.narrow(-1, 0, 1))
        if not (tracer.channels(left).vanishes or tracer.channels(right).vanishes):
            tracer.mix(first, "a sum over channels that are not 0 when masked")
        return
    has_rows, has_columns = rank - 2 in across_first, rank - 1 in across_second
    if has_rows and has_columns:
        for tensor in (left, right):
            tracer.fix_tensor(tensor, "an outer product of channels")
        return
    labels, known = (
        (first.narrow(-1, 0, 1), left) if has_rows or not across_second else (second.narrow(-2, 0, 1), right)
    )
    if across_first and across_second:
        if has_rows or has_columns:  # one has channels where the other has heads
            tracer.fix(second if has_rows else first, "heads beside channels")
        else:
            tracer.classes.join(first[..., :1, :1], second[..., :1, :1])
    channels = tracer.channels(known)
    tracer.put(out, labels, vanishes=channels.vanishes, why=channels.why)


def follow_attention(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Scaled dot-product attention of query, key and value, each (N, heads, length, width)."""
    query, key, value = (tracer.labels(tensor) for tensor in args[:3])
    for labels in (query, key, value):
        tracer.classes.join(labels, labels.narrow(2, 0, 1))
    tracer.classes.join(query.narrow(2, 0, 1), key.narrow(2, 0, 1))
    if 3 in varying_dims(query) and kwargs.get("scale") is None:
        tracer.mix(query, "the scale of attention follows its width")
    if 1 in varying_dims(query) or 1 in varying_dims(value):
        tracer.classes.join(query[:, :, :1, :1], value[:, :, :1, :1])
    known = tracer.channels(args[2])
    tracer.put(
        out[0] if isinstance(out, tuple) else out,
        tracer.labels(args[2]).narrow(2, 0, 1),
        vanishes=known.vanishes,
        why=known.why,
    )


def follow_embedding(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    """Rows of a weight (entries, width), picked by whole numbers."""
    width = tracer.side_nodes(args[0], 1, part="makes")
    if width is None:
        tracer.fix_tensor(args[0], "an embedding that is computed from other values")
        return
    tracer.fix(tracer.side_nodes(args[0], 0), "the entries of an embedding")
    tracer.put(out, width, vanishes=True)


def _read_channels(tracer: Tracer, x: Tensor, inputs: Tensor, taken: Tensor) -> None:
    """Join the channels `inputs` of x with `taken`, the input side of the weight that reads them."""
    tracer.classes.join(inputs, taken)
    tracer.fix(taken[inputs == FREE], "reads channels that no layer computes")
    _report_lost_zeros(tracer, x, inputs)


def _report_lost_zeros(tracer: Tracer, x: Tensor, inputs: Tensor) -> None:
    """Note that the reading layer gets something else than 0 from masked channels, where that is so."""
    known = tracer.channels(x)
    if not known.vanishes and bool((inputs != FREE).any()):
        tracer.leave_over(inputs, f"{known.why or 'an operator'} of 0 is not 0")


def _add_bias(tracer: Tracer, bias: Tensor | None, made: Tensor) -> bool:
    """Join a bias with the channels that it is added to; return whether they are 0 when their weights are masked."""
    if bias is None:
        return True
    nodes = tracer.side_nodes(bias, bias.dim() - 1)
    if nodes is None:
        tracer.fix(made, COMPUTED)
        return False
    tracer.classes.join(nodes, made)
    return True
