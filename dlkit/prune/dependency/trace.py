"""One forward pass in which every number carries the channel that it belongs to.

A dispatch mode sees each operator below autograd, whatever the Python code around it looks like. Operators that only move
numbers are repeated on the labels, so views, shuffles, rolls, concatenations and permutations need no arithmetic of their
own; operators that combine channels join their classes. An operator that is not listed here fixes the channels that enter
it, with its name as the reason.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.models import eval_mode, tensors_in, unfused_attention
from dlkit.prune.dependency.matmuls import follow_attention, follow_convolution, follow_embedding, follow_product
from dlkit.prune.dependency.norms_and_pools import (
    BATCH_NORMS,
    POOLS,
    REDUCTIONS,
    SOFTMAXES,
    follow_batch_norm,
    follow_group_norm,
    follow_layer_norm,
    follow_pool,
    follow_reduction,
    follow_softmax,
)
from dlkit.prune.dependency.pointwise import follow_glu, follow_pointwise, is_pointwise
from dlkit.prune.dependency.reshapes import MOVES, follow_move
from dlkit.prune.dependency.tracer import Channels, Findings, Tracer

# their results depend on shapes alone
_SHAPE_ONLY = frozenset(
    {"new_zeros", "new_ones", "new_empty", "new_full", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like",
     "randn_like", "sym_size", "sym_numel", "_local_scalar_dense", "is_same_size"}
)  # fmt: skip
_FOLLOWED: Mapping[str, Callable[[Tracer, str, Any, Any, Any, Any], None]] = {
    "convolution": follow_convolution,
    "native_group_norm": follow_group_norm,
    "native_layer_norm": follow_layer_norm,
    "glu": follow_glu,
    "embedding": follow_embedding,
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm", "addmv", "mv", "dot"), follow_product),
    **dict.fromkeys(BATCH_NORMS, follow_batch_norm),
    **dict.fromkeys(POOLS, follow_pool),
    **dict.fromkeys(REDUCTIONS, follow_reduction),
    **dict.fromkeys(SOFTMAXES, follow_softmax),
}


def trace(network: nn.Module, example: Tensor) -> Findings:
    """Follow the channels of a network, in evaluation mode, on an example of shape (N, ...).

    Raises whatever the network raises for this input.
    """
    with eval_mode(network), unfused_attention(), torch.no_grad():
        tracer = Tracer(network, _follow)
        example = example.detach().clone()
        if example.is_floating_point():
            tracer.add_input(example)
        with tracer.running.followed(network), tracer:
            output = network(example)
        for tensor in tensors_in(output):
            tracer.fix_tensor(tensor, "reaches the model's output")
    return tracer.findings


def _follow(tracer: Tracer, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Label the results of one operator of which at least one operand is followed."""
    namespace, _, name = op.overloadpacket._qualified_op_name.partition("::")
    if namespace != "aten":
        _give_up(tracer, f"{namespace}.{name}", args, kwargs)
    elif name in _FOLLOWED and not (name in REDUCTIONS and len(args) > 1 and isinstance(args[1], Tensor)):
        _FOLLOWED[name](tracer, name, op, args, kwargs, out)
    elif name in MOVES:
        follow_move(tracer, name, op, args, kwargs, out)
    elif name.startswith("_scaled_dot_product"):
        follow_attention(tracer, name, op, args, kwargs, out)
    elif name == "copy_":
        _follow_write(tracer, args, kwargs)
    elif is_pointwise(name, op):
        follow_pointwise(tracer, name, op, args, kwargs, out)
    elif name not in _SHAPE_ONLY:
        _give_up(tracer, name, args, kwargs)


def _follow_write(tracer: Tracer, args: Any, kwargs: Any) -> None:
    """Values written over a tensor; values written into a part of one are not followed."""
    target, source = args[:2]
    if target._is_view() and isinstance(tracer.get(source), Channels):
        _give_up(tracer, "writing into a part of a tensor", args, kwargs)
        return
    known = tracer.channels(source)
    tracer.put(target, tracer.labels(source), vanishes=known.vanishes, why=known.why)


def _give_up(tracer: Tracer, what: str, args: Any, kwargs: Any) -> None:
    for tensor in tensors_in((args, kwargs)):
        tracer.fix_tensor(tensor, f"goes through {what}, which is not followed")
