"""A transform on whole batches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dlkit.core.data.counter_rng import Draws

Function = Callable[[Any, Tensor, Draws], Tensor]


@dataclass(frozen=True)
class Batched:
    """A transform of a whole batch; picklable for loader processes."""

    transform: Any
    function: Function | None

    @property
    def is_random(self) -> bool:
        """Whether the draws matter."""
        return self.function is not None

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Returns the images (N, C, H, W), transformed."""
        if self.function is None:
            changed: Tensor = self.transform(images)
            return changed
        return self.function(self.transform, images, draws)
