"""What is known of a tensor while a network is traced."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

INPUT = "the input"


@dataclass(frozen=True)
class Channels:
    """An activation: the node of every number, of the tensor's own shape.

    `vanishes` says that a channel is exactly 0 here once the weights that make it are 0; where it stopped being so,
    `why` names the operator.
    """

    labels: Tensor
    vanishes: bool
    why: str = ""


@dataclass(frozen=True)
class Stored:
    """A parameter or buffer, perhaps moved about: `index[d]` is the place along its dimension d that each number came from."""

    name: str
    index: tuple[Tensor, ...]

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Stored":
        """The same after an operator that only moves numbers."""
        return Stored(self.name, tuple(move(index) for index in self.index))


Tracked = Channels | Stored
