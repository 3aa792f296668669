"""Which groups of samples are held out: whole ones, so that classes keep their shares as well as groups allow."""

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlkit.core.data.counter_rng import permutation
from dlkit.errors import DataError

MOST_PASSES = 4


def draw_groups(groups: Tensor, targets: Tensor, count: int, *, key: int) -> Tensor:
    """Returns which samples are held out, bool (N,): those of whole groups, int64 (N,), about `count` samples.

    Of class labels, int64 (N,), each class gives as near to its share as groups allow, and keeps a sample where it can; of other
    targets, as many groups are drawn as come closest to the count. Raises DataError where there is one group alone.
    """
    _, numbers, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError("all training samples are of one group, which cannot be split; set data.val to test or none")
    order = permutation(key, len(sizes))
    if targets.is_floating_point():
        num_groups = int((sizes[order].cumsum(0)[:-1] - count).abs().argmin()) + 1
        return torch.isin(numbers, order[:num_groups])
    draw = _Draw.of(numbers, targets, count)
    return torch.isin(numbers, torch.tensor(sorted(draw.settled(order.tolist()))))


@dataclass
class _Draw:
    """Groups that are held out so far. `counts` are the samples of each group by class, `wanted` and `all` those that are to be held
    out of each class, and all that it has.
    """

    counts: dict[int, dict[int, int]]
    wanted: dict[int, float]
    all: dict[int, int]
    held: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    chosen: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, groups: Tensor, targets: Tensor, count: int) -> "_Draw":
        counts: dict[int, dict[int, int]] = defaultdict(dict)
        labels, places, totals = torch.unique(targets, return_inverse=True, return_counts=True)
        pairs, sizes = torch.unique(groups * len(labels) + places, return_counts=True)
        for pair, size in zip(pairs.tolist(), sizes.tolist(), strict=True):
            group, label = divmod(pair, len(labels))
            counts[group][label] = size
        whole = dict(enumerate(totals.tolist()))
        share = count / len(targets)
        return cls(counts, {label: share * size for label, size in whole.items()}, whole)

    def settled(self, order: list[int]) -> set[int]:
        """Returns the groups, after each was put in or taken out where that is closer, in this order, until none is."""
        for _ in range(MOST_PASSES):
            moved = 0
            for group in order:
                if self._gain(group) < 0 and not self._takes_all(group):
                    self._toggle(group)
                    moved += 1
            if not moved:
                break
        if not self.chosen:  # every group is too large: the one that is nearest
            self._toggle(min(order, key=lambda group: (self._takes_all(group), self._gain(group))))
        return self.chosen

    def _gain(self, group: int) -> float:
        """Returns how much further from what is wanted the classes get, by chi-squared, when a group changes sides."""
        sign = -1 if group in self.chosen else 1
        return sum(
            ((excess := self.held[label] - self.wanted[label]) + sign * size) ** 2 / self.wanted[label]
            - excess**2 / self.wanted[label]
            for label, size in self.counts[group].items()
        )

    def _takes_all(self, group: int) -> bool:
        """Whether nothing of a class is left to train on when a group is put in."""
        sizes = self.counts[group].items()
        return group not in self.chosen and any(self.held[label] + size == self.all[label] for label, size in sizes)

    def _toggle(self, group: int) -> None:
        sign = -1 if group in self.chosen else 1
        for label, size in self.counts[group].items():
            self.held[label] += sign * size
        self.chosen.symmetric_difference_update({group})
