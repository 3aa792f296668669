"""What both ways of loading share: which samples make up which batch, and the last steps of a batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dlkit.core.data.contract import Batch, DataInfo
from dlkit.core.data.counter_rng import Draws, Stream, hash_key, permutation
from dlkit.core.data.statistics import normalize_inputs

Mixer = Callable[[Tensor, Tensor, Draws], tuple[Tensor, Tensor]]


class BatchIndices(NamedTuple):
    """The positions (N,) that a process reads at its turn; not counted where they only fill it, see `Batch`."""

    positions: Tensor
    is_counted: bool = True


@dataclass(frozen=True)
class BatchPlan:
    """Which positions of a split make up which batch, as a function of (seed, epoch).

    `drop_last` of "single" drops a last batch of one sample, on which batch norm cannot work; True drops any last batch
    that is short. A split's only batch is never dropped by "single".
    """

    num_samples: int
    batch_size: int
    seed: int
    shuffle: bool = False
    drop_last: bool | Literal["single"] = False

    @property
    def num_batches(self) -> int:
        """Batches of one epoch."""
        whole, rest = divmod(self.num_samples, self.batch_size)
        is_dropped = rest > 0 and (self.drop_last is True or (self.drop_last == "single" and rest == 1 and whole > 0))
        return whole + (rest > 0 and not is_dropped)

    def positions(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """The positions in each batch of an epoch from batch `start` on: int64 (N,)."""
        order = (
            permutation(hash_key(self.seed, Stream.ORDER, epoch), self.num_samples)
            if self.shuffle
            else torch.arange(self.num_samples)
        )
        for number in range(start, self.num_batches):
            yield order[number * self.batch_size : (number + 1) * self.batch_size]

    def turns(self, epoch: int, start: int = 0) -> Iterator[BatchIndices]:
        """What this process reads, batch by batch."""
        return (BatchIndices(positions) for positions in self.positions(epoch, start))


@dataclass(frozen=True)
class Finish:
    """The last steps of a batch: to the device, normalized, mixed."""

    info: DataInfo
    device: torch.device
    seed: int
    mixers: tuple[Mixer, ...] = ()

    def __call__(self, raw: Tensor, targets: Tensor, turn: BatchIndices, *, epoch: int) -> Batch:
        """A batch from raw inputs (N, ...), targets (N,) or (N, num_outputs) and the positions that they stand at."""
        positions = turn.positions
        inputs = normalize_inputs(raw.to(self.device, non_blocking=True), self.info)
        targets = targets.to(self.device, non_blocking=True)
        if self.mixers:
            if not targets.is_floating_point():
                targets = one_hot(targets, self.info.num_outputs).float()
            inputs, targets = self._pick_mixer(epoch, positions)(
                inputs, targets, Draws(self.seed, epoch, positions, (Stream.MIX,))
            )
        return Batch(inputs, targets, positions, turn.is_counted)

    def _pick_mixer(self, epoch: int, positions: Tensor) -> Mixer:
        # one per batch, evenly, as in torchvision's recipe with RandomChoice([cutmix, mixup])
        return self.mixers[hash_key(self.seed, Stream.MIX, epoch, int(positions[0])) % len(self.mixers)]
