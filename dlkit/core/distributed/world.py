"""The processes of a run and what they tell each other. Alone, each of these answers at once with what it was given."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among those of its run, and among those on its machine. Rank 0 writes, the others compute.

    `launch` tells one torchrun from another, by its id and its process, and is "" without; `restarts` counts the attempts before
    this one. In `lockstep` a
    forward pass is a joint act, because every process holds only a part of the weights.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launch: str = ""
    restarts: int = 0
    lockstep: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and talks to people."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if not self.is_alone:
            dist.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> list[Tensor]:
        """The tensors of all processes by rank; all have the same shape."""
        if self.is_alone:
            return [values]
        found = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(found, values.contiguous())
        return found

    def gather_values(self, value: T) -> list[T]:
        """What each process gives, by rank: tensors on the CPU and plain values."""
        if self.is_alone:
            return [value]
        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, value)
        return cast(list[T], found)

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, for all; the others do not call it."""
        if self.is_alone:
            return make()
        found = [make() if self.is_main else None]
        dist.broadcast_object_list(found, src=0)
        return cast(T, found[0])

    def wait(self) -> None:
        """Until all processes are here."""
        if not self.is_alone:
            self.sum(torch.zeros(1))

    @contextmanager
    def first_on_machine(self) -> Iterator[None]:
        """One process of each machine goes first, the others follow: for downloads that they would make together."""
        if self.local_rank > 0:
            self.wait()
        yield
        if self.local_rank == 0:
            self.wait()


ALONE = World()
