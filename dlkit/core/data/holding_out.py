"""Held-out samples, picked by seed."""

import torch
from torch import Tensor

from dlkit.core.data.counter_rng import Stream, hash_key, permutation
from dlkit.errors import DataError


def hold_out(targets: Tensor, fraction: float, *, seed: int, stream: Stream) -> tuple[Tensor, Tensor]:
    """Positions that stay and positions that are held out, ascending; together they are all, each once.

    Class labels, int64 (N,), are held out in proportion wherever every class can keep and give at least one sample;
    other targets, and classes too small for that, are drawn regardless of their value. Raises DataError when either
    part would be empty.
    """
    size = len(targets)
    count = min(max(1, round(size * fraction)), size - 1)
    if count < 1:
        raise DataError(
            f"{size} training sample{'s' * (size != 1)} cannot be split; set data.val to test or none, or add samples"
        )
    order = permutation(hash_key(seed, stream), size)
    shares = _shares_by_class(targets, count) if not targets.is_floating_point() else None
    if shares is None:
        held = order[:count]
    else:
        held = torch.cat([order[targets[order] == label][:share] for label, share in shares.items()])
    is_held = torch.zeros(size, dtype=torch.bool)
    is_held[held] = True
    return (~is_held).nonzero()[:, 0], is_held.nonzero()[:, 0]


def _shares_by_class(targets: Tensor, count: int) -> dict[int, int] | None:
    labels, sizes = torch.unique(targets, return_counts=True)
    quotas = sizes.double() * count / len(targets)
    shares = quotas.floor().long()
    # the largest remainders take what rounding down left over, so that the total is exact
    rest = count - int(shares.sum())
    shares[(quotas - shares).argsort(descending=True, stable=True)[:rest]] += 1
    if (shares < 1).any() or (shares >= sizes).any():
        return None
    return dict(zip(labels.tolist(), shares.tolist(), strict=True))


def pick_limit(size: int, limit: int | None, *, seed: int) -> Tensor:
    """Positions of at most `limit` samples, picked by seed, ascending."""
    if limit is None or limit >= size:
        return torch.arange(size)
    return permutation(hash_key(seed, Stream.LIMIT), size)[:limit].sort().values
