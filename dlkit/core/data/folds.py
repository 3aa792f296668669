"""Cross-validation: the training split in equal parts, each of which validates once."""

import torch
from torch import Tensor

from dlkit.core.data.counter_rng import Stream, hash_key, permutation
from dlkit.errors import DataError


def draw_fold(targets: Tensor, fold: int, folds: int, *, seed: int, groups: Tensor | None = None) -> Tensor:
    """Returns which samples one fold, counted from 1, holds out, bool (N,); all folds together hold out each sample once.

    The folds of a seed have equally many samples of each class label, int64 (N,), to within one; of other targets, equally many
    samples. Groups, int64 (N,), stay whole, which classes follow as well as groups allow. Raises DataError for more folds than there
    are samples or groups.
    """
    labels = torch.zeros(len(targets), dtype=torch.int64) if targets.is_floating_point() else targets
    parts, what = (labels, "sample") if groups is None else (groups, "group")
    count = len(parts) if groups is None else len(set(parts.tolist()))
    if count < folds:
        raise DataError(
            f"{folds} folds need as many training {what}s, and there are {count}; set fewer in data.fold.of"
        )
    key = hash_key(seed, Stream.VAL)
    numbers = _deal(labels, folds, key) if groups is None else _place(groups, labels, folds, key)
    return numbers == fold - 1


def _deal(labels: Tensor, folds: int, key: int) -> Tensor:
    """The fold of each sample: samples are drawn by seed, laid out by class, and dealt like cards."""
    order = permutation(key, len(labels))
    order = order[labels[order].argsort(stable=True)]
    numbers = torch.empty_like(labels)
    numbers[order] = torch.arange(len(labels)) % folds
    return numbers


def _place(groups: Tensor, labels: Tensor, folds: int, key: int) -> Tensor:
    """The fold of each sample: groups, the largest first, go one by one to the fold that has fewest samples of their classes."""
    _, places = torch.unique(groups, return_inverse=True)
    _, classes = torch.unique(labels, return_inverse=True)
    counts = torch.zeros(int(places.max()) + 1, int(classes.max()) + 1, dtype=torch.float64)
    counts.index_put_((places, classes), torch.ones(len(labels), dtype=torch.float64), accumulate=True)
    order = permutation(key, len(counts))
    order = order[counts[order].sum(1).argsort(descending=True, stable=True)]
    held, chosen = torch.zeros(folds, counts.shape[1], dtype=torch.float64), torch.empty(len(counts), dtype=torch.int64)
    for turn, group in enumerate(order.tolist()):
        # the growth of the squared samples of each class, in shares of the class; no fold stays empty
        growth = (counts[group] * (2 * held + counts[group]) / counts.sum(0)).sum(1)
        is_needed = len(order) - turn <= int((held.sum(1) == 0).sum())
        growth[(held.sum(1) > 0) & is_needed] = torch.inf
        chosen[group] = int(growth.argmin())
        held[chosen[group]] += counts[group]
    return chosen[places]
