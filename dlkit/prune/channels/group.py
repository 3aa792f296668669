"""A group of coupled channels, in plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["makes", "reads", "along"]
Kind = Literal["exact", "approximate"]
Role = Literal["inner", "residual", "fixed"]


@dataclass(frozen=True)
class Member:
    """One dimension of a parameter or buffer, and where each unit of the group stands along it.

    A weight `makes` channels or `reads` them; anything else lies `along` them: a bias, a norm, a depthwise weight, a
    scale. Places in a grouped convolution's dimension 1 count through all of its groups.
    """

    tensor: str
    dim: int
    part: Part
    places: tuple[tuple[int, ...], ...]

    @property
    def module(self) -> str:
        """Name of the module that holds the tensor."""
        return self.tensor.rpartition(".")[0]


@dataclass(frozen=True)
class Group:
    """Channels that are removed unit by unit: a unit is one channel in all its members at once, or several tied ones.

    Of each of the `blocks` of units the same share must be kept. A `refusal` is the reason why the group is never pruned.
    `kind` is exact where removal is the same as setting the weights that make the channels to 0, and norms and biases
    along them; otherwise `note` says why not. On a mixed group other channels depend, for example through layer norm.
    """

    id: str
    size: int
    members: tuple[Member, ...]
    blocks: tuple[tuple[int, ...], ...]
    role: Role
    kind: Kind
    is_mixed: bool = False
    note: str = ""
    refusal: str = ""

    @property
    def num_channels(self) -> int:
        """Channels of the first layer that makes them."""
        return sum(map(len, self.members[0].places))

    @property
    def num_makers(self) -> int:
        """How many weights make these channels."""
        return sum(member.part == "makes" for member in self.members)


def find_group(groups: Sequence[Group], group_id: str) -> Group:
    """The group of this id. Raises KeyError where there is none."""
    for group in groups:
        if group.id == group_id:
            return group
    raise KeyError(f"no group {group_id!r}")
