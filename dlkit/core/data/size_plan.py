"""Sizes of training images that grow from epoch to epoch, so that early epochs cost less."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SizePlan:
    """Squares that grow evenly over the epochs, in steps of the greatest number that divides both ends: 128, 160, 192, 224.

    The first epoch has the first size, the last one the last, and so has all that comes after it.
    """

    first: int
    last: int
    num_epochs: int

    def at(self, epoch: int) -> tuple[int, int]:
        """Returns height and width in an epoch, counted from 0."""
        if epoch >= self.num_epochs - 1:
            return self.last, self.last
        step = math.gcd(self.first, self.last)
        steps = (self.last - self.first) // step * epoch / (self.num_epochs - 1)
        size = self.first + step * math.floor(steps + 0.5)
        return size, size
