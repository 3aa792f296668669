"""Following operators that combine numbers at the same place, which makes their channels depend on each other."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from dlkit.core.models import tensors_in
from dlkit.prune.dependency.tracer import Tracer
from dlkit.prune.dependency.union_find import FREE, compact, without_repeats

# torch does not tag these
_UNTAGGED = frozenset(
    {
        "hardswish",
        "_prelu_kernel",
        "floor_divide",
        "log_sigmoid_forward",
        "native_dropout",
        "masked_fill",
        "fill",
        "zero",
    }
)


def is_pointwise(name: str, op: Any) -> bool:
    """Whether an operator works number by number, in place or not."""
    return torch.Tag.pointwise in op.tags or name.removesuffix("_") in _UNTAGGED


def follow_pointwise(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Join the channels of all operands, place by place."""
    result = out[0] if isinstance(out, list | tuple) else out
    operands = tensors_in((args, kwargs))
    merged = _merged_labels(tracer, operands, result)
    known = [tracer.channels(tensor) for tensor in operands]
    vanishes = any(part.vanishes for part in known) and _gives_zero(tracer, op, args, kwargs)
    why = next((part.why for part in known if part.why), name)
    tracer.put(result, merged, vanishes=vanishes, why="" if vanishes else why)


def _merged_labels(tracer: Tracer, operands: list[Tensor], result: Tensor) -> Tensor:
    """Join the operands and return the result's labels.

    A parameter of several dimensions has channels only beside an operand that has some.
    """
    tables = [tensor for tensor in operands if tracer.is_table(tensor)]
    merged = torch.full((1,) * result.dim(), FREE).expand(result.shape)
    for tensor in [tensor for tensor in operands if not any(tensor is table for table in tables)] + tables:
        if tracer.is_table(tensor) and not bool((without_repeats(merged) >= 0).any()):
            tracer.fix_tensor(tensor, "has no channels along which to cut")
            continue
        labels = tracer.labels(tensor)
        tracer.classes.join(merged, labels)
        if bool((without_repeats(merged) == FREE).any()):
            merged = compact(torch.where(merged == FREE, labels, merged))
    return merged


def _gives_zero(tracer: Tracer, op: Any, args: Any, kwargs: Any) -> bool:
    """Whether the result is 0 when the operands that vanish are 0 and the others are as they are; it is tried."""

    def probe(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.zeros_like(value) if tracer.channels(value).vanishes else value.clone()

    out = op(*tree_map(probe, args), **tree_map(probe, kwargs))
    return not bool((out[0] if isinstance(out, list | tuple) else out).any())


def follow_glu(tracer: Tracer, name: str, op: Any, args: Any, kwargs: Any, out: Tensor) -> None:
    """Gated linear unit: join the halves of a dimension."""
    dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    values, gates = tracer.labels(args[0]).chunk(2, dim)
    tracer.classes.join(values, gates)
    known = tracer.channels(args[0])
    tracer.put(out, compact(values), vanishes=known.vanishes, why=known.why)
