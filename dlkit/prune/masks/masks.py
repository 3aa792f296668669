"""Choosing masks: which weights, or which whole channels, are set to zero; the choices are torch.nn.utils.prune's, bit for bit.

A mask is a bool tensor under the name of its parameter, true where the weight is kept. Masks are written into the weights at
once, so that names, order of parameters, copies, moving averages and checkpoints stay as they are; training.py keeps the
zeros through training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from dlkit.choices import PruneScope
from dlkit.errors import UsageError
from dlkit.prune.amounts import Amount
from dlkit.prune.masks.weights import PrunableWeight

Masks = Mapping[str, Tensor]


@dataclass(frozen=True)
class MaskRule:
    """What is masked: single weights by size, or with `dim` whole slices along that dimension by their `norm`.

    `norm` is the n of the Ln norm (`math.inf` for the largest entry); it does not matter for single weights. `min_keep` is
    the least share of every layer that stays; with 0 a layer may be emptied, as by torch.
    """

    amount: Amount
    scope: PruneScope = "layer"
    is_random: bool = False
    dim: int | None = None
    norm: float = 1.0
    min_keep: float = 0.0

    def num_kept_at_least(self, size: int) -> int:
        """How many of a layer's `size` weights or slices stay whatever the amount."""
        return math.ceil(self.min_keep * size)


def full_masks(weights: Sequence[PrunableWeight]) -> dict[str, Tensor]:
    """Masks that keep everything."""
    return {weight.name: torch.ones(weight.parameter.shape, dtype=torch.bool) for weight in weights}


def apply_masks(network: nn.Module, masks: Masks) -> None:
    """Set every masked weight to zero, in place."""
    with torch.no_grad():
        for name, mask in masks.items():
            parameter = network.get_parameter(name)
            parameter.masked_fill_(~mask.to(parameter.device), 0)


def grow_masks(
    weights: Sequence[PrunableWeight], masks: Masks, rule: MaskRule, *, progress: float = 1.0, generator: Generator
) -> dict[str, Tensor]:
    """Return masks that remove more, until `progress` of the rule's amount of the original is gone; what was removed stays so.

    `generator` is on the CPU and drives random choices. Raises UsageError when the amount cannot be removed.
    """
    _check(weights, rule)
    units = [_kept_units(masks[weight.name], rule.dim) for weight in weights]
    scores = _scores(weights, units, rule, generator)
    pick = _pick_global if rule.scope == "global" else _pick_by_layer
    removed = pick(weights, units, scores, rule, progress)
    grown = {}
    for weight, kept, gone in zip(weights, units, removed, strict=True):
        kept = kept.clone()
        kept[kept.nonzero().flatten()[gone]] = False
        grown[weight.name] = masks[weight.name] & _spread(kept, weight.parameter.shape, rule.dim)
    return grown


def _check(weights: Sequence[PrunableWeight], rule: MaskRule) -> None:
    if rule.dim is not None:
        for weight in weights:
            dims = weight.parameter.ndim
            if not -dims <= rule.dim < dims:
                raise UsageError(
                    f"--dim {rule.dim}: {weight.name} has {dims} dimensions, 0 to {dims - 1}; "
                    f"leave it out with --skip {weight.layer or weight.name!r}"
                )


def _kept_units(mask: Tensor, dim: int | None) -> Tensor:
    """The kept weights, or the slices along `dim` of which something is kept, as a bool vector."""
    if dim is None:
        return mask.reshape(-1)
    return mask.movedim(dim, 0).flatten(1).any(1)


def _spread(kept: Tensor, shape: torch.Size, dim: int | None) -> Tensor:
    """The inverse of `_kept_units`."""
    if dim is None:
        return kept.reshape(shape)
    sizes = [1] * len(shape)
    sizes[dim] = -1
    return kept.reshape(sizes).expand(shape)


def _scores(
    weights: Sequence[PrunableWeight], units: Sequence[Tensor], rule: MaskRule, generator: Generator
) -> list[Tensor]:
    """The importance of each kept weight or slice of each layer; random numbers are drawn as torch draws them."""
    sizes = [int(kept.sum()) for kept in units]
    if rule.is_random and rule.scope == "global":
        return _split(torch.rand(sum(sizes), generator=generator), sizes)
    if rule.is_random:
        return [torch.rand(size, generator=generator) for size in sizes]
    values = [weight.parameter.detach().cpu() for weight in weights]
    if rule.dim is None:
        return [value.reshape(-1)[kept].abs() for value, kept in zip(values, units, strict=True)]
    return [_norms(value, kept, rule, rule.dim) for value, kept in zip(values, units, strict=True)]


def _split(vector: Tensor, sizes: list[int]) -> list[Tensor]:
    return list(torch.split(vector, sizes))


def _norms(value: Tensor, kept: Tensor, rule: MaskRule, dim: int) -> Tensor:
    """The norm of each kept slice; across layers a power mean, or slices of large layers would always stay."""
    dim %= value.ndim
    slices = value.index_select(dim, kept.nonzero().flatten())
    norms: Tensor = torch.linalg.vector_norm(slices, ord=rule.norm, dim=[d for d in range(value.ndim) if d != dim])
    if rule.scope == "global" and math.isfinite(rule.norm):
        norms = norms / (value.numel() / value.shape[dim]) ** (1 / rule.norm)
    return norms


def _pick_by_layer(
    weights: Sequence[PrunableWeight],
    units: Sequence[Tensor],
    scores: Sequence[Tensor],
    rule: MaskRule,
    progress: float,
) -> list[Tensor]:
    picked = []
    for weight, kept, score in zip(weights, units, scores, strict=True):
        size = len(kept)
        if rule.amount.count is not None and rule.amount.count >= size:
            what = "weights" if rule.dim is None else f"slices along dimension {rule.dim}"
            raise UsageError(
                f"--count {rule.amount.count}: {weight.name} has only {size} {what}; "
                "take fewer, leave it out with --skip, or count over the whole network with --scope global"
            )
        wanted = min(rule.amount.of(size, progress), size - rule.num_kept_at_least(size))
        picked.append(_remove(score, max(0, wanted - (size - len(score))), rule))
    return picked


def _pick_global(
    weights: Sequence[PrunableWeight],
    units: Sequence[Tensor],
    scores: Sequence[Tensor],
    rule: MaskRule,
    progress: float,
) -> list[Tensor]:
    total, left = sum(map(len, units)), sum(map(len, scores))
    if rule.amount.count is not None and rule.amount.count >= total:
        raise UsageError(f"--count {rule.amount.count}: there are only {total} to remove from; take fewer")
    wanted = max(0, rule.amount.of(total, progress) - (total - left))
    sizes = [len(score) for score in scores]
    floors = [rule.num_kept_at_least(len(kept)) for kept in units]
    removed = _split(_remove(torch.cat(list(scores)), wanted, rule), sizes)
    if all(size - int(gone.sum()) >= floor for size, gone, floor in zip(sizes, removed, floors, strict=True)):
        return removed
    free = sum(max(0, size - floor) for size, floor in zip(sizes, floors, strict=True))
    if wanted > free:
        raise UsageError(
            f"{rule.amount} cannot be removed: --min-keep {rule.min_keep:.0%} leaves at most {(total - left) + free} of {total}"
        )
    guarded = [_guard(score, floor, rule) for score, floor in zip(scores, floors, strict=True)]
    return _split(_remove(torch.cat(guarded), wanted, rule), sizes)


def _remove(scores: Tensor, count: int, rule: MaskRule) -> Tensor:
    """Mark the `count` least important as removed; ties fall as in torch, whose methods ask topk for different ends."""
    removed = torch.zeros(len(scores), dtype=torch.bool)
    if rule.dim is not None:
        kept = scores.topk(len(scores) - count, largest=True).indices
        removed[:] = True
        removed[kept] = False
    elif count:
        removed[scores.topk(count, largest=rule.is_random).indices] = True
    return removed


def _guard(scores: Tensor, floor: int, rule: MaskRule) -> Tensor:
    """The scores, with those of the layer's best `floor` changed so that `_remove` takes none of them."""
    is_high_removed = rule.dim is None and rule.is_random
    best = scores.topk(min(floor, len(scores)), largest=not is_high_removed).indices
    scores = scores.clone()
    scores[best] = -math.inf if is_high_removed else math.inf
    return scores
