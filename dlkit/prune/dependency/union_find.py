"""A union-find over whole tensors: nodes that stand for channels, joined where the channels must stay or go together."""

import torch
from torch import Tensor

FREE = -1  # a number that is no channel: padding, a constant, a score of attention


class UnionFind:
    """Classes of nodes, counted from 0; joined nodes share the smallest of them as their root. FREE belongs to no class."""

    def __init__(self) -> None:
        self._parent = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._parent)

    def add(self, count: int) -> int:
        """Make this many new nodes and return the first."""
        first = len(self._parent)
        self._parent = torch.cat([self._parent, torch.arange(first, first + count)])
        return first

    def roots(self, labels: Tensor) -> Tensor:
        """The root of every node; FREE stays FREE."""
        if not len(self._parent):
            return labels
        core = without_repeats(labels)
        return torch.where(core >= 0, self._parent[core.clamp(min=0)], core).expand(labels.shape)

    def join(self, first: Tensor, second: Tensor) -> None:
        """Join the nodes of two tensors pair by pair, broadcast against each other; pairs with FREE are skipped."""
        left, right = (self.roots(labels).flatten() for labels in squeeze_together(first, second))
        both = (left >= 0) & (right >= 0)
        left, right = left[both], right[both]
        while True:
            differ = left != right
            if not bool(differ.any()):
                return
            left, right = left[differ], right[differ]
            low, high = torch.minimum(left, right), torch.maximum(left, right)
            self._parent.scatter_reduce_(0, high, low, "amin")
            self._shorten()
            left, right = self._parent[left], self._parent[right]

    def _shorten(self) -> None:
        """Make every node point at its root."""
        while True:
            parent = self._parent[self._parent]
            if torch.equal(parent, self._parent):
                return
            self._parent = parent


def compact(labels: Tensor) -> Tensor:
    """The same labels with stride 0 along every dimension in which they do not change."""
    core = without_repeats(labels)
    for dim in range(core.dim()):
        if core.shape[dim] > 1:
            first = core.narrow(dim, 0, 1)
            if bool((core == first).all()):
                core = first
    return core.expand(labels.shape)


def without_repeats(labels: Tensor) -> Tensor:
    """Labels cut to length 1 along the dimensions that have stride 0."""
    for dim in range(labels.dim()):
        if labels.shape[dim] > 1 and labels.stride(dim) == 0:
            labels = labels.narrow(dim, 0, 1)
    return labels


def varying_dims(labels: Tensor) -> list[int]:
    """Dimensions along which compacted labels change."""
    return [dim for dim in range(labels.dim()) if labels.shape[dim] > 1 and labels.stride(dim) != 0]


def squeeze_together(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors broadcast to one shape, cut to length 1 along dimensions in which neither changes."""
    first, second = torch.broadcast_tensors(first, second)  # type: ignore[no-untyped-call]
    for dim in range(first.dim()):
        if first.shape[dim] > 1 and first.stride(dim) == 0 and second.stride(dim) == 0:
            first, second = first.narrow(dim, 0, 1), second.narrow(dim, 0, 1)
    return first, second
