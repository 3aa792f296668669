"""A group of channels that depend on each other, in plain values, and which of its units stay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["makes", "reads", "along"]
Kind = Literal["exact", "approximate"]
Role = Literal["inner", "residual", "fixed"]
Keep = Mapping[str, tuple[int, ...]]  # the units that stay, in order, by the group's id; groups not named stay whole


@dataclass(frozen=True)
class Member:
    """One dimension of a parameter or buffer, and the places of each unit of the group along it.

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

    The same share of each of the `blocks` of units must stay. `refusal` is the reason why the group is never pruned.
    `kind` is exact where removing channels equals setting to 0 the weights that make them, with the norms and biases
    along them; otherwise `note` says why not. Other channels depend on those of a mixed group, for example through layer
    norm. A layer that stays whole without having been followed has no members.
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
        return sum(map(len, self.members[0].places)) if self.members else self.size

    @property
    def num_makers(self) -> int:
        """How many weights make these channels."""
        return sum(member.part == "makes" for member in self.members)


def kept_units(groups: Sequence[Group], keep: Keep) -> list[tuple[Group, tuple[int, ...]]]:
    """Each group that `keep` names, and its units that stay. Raises KeyError for a group that does not exist."""
    by_id = {group.id: group for group in groups}
    return [(by_id[group_id], units) for group_id, units in keep.items()]
