"""What both ways of loading share: which samples make up which batch, and the last steps of a batch.

Several processes cut the batches of one process whose batch size is as large as all together, so that the same samples
make up the same update on any number of processes. Nothing is padded and nothing is read twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dlkit.core.data.contract import Batch, DataInfo
from dlkit.core.data.counter_rng import Draws, Stream, hash_key, permutation
from dlkit.core.data.images import fit_image, fit_masks
from dlkit.core.data.masks import part_mask
from dlkit.core.data.mixing import MixingPlan
from dlkit.core.data.sampling import DrawnSamples, repeat_samples
from dlkit.core.data.size_plan import SizePlan
from dlkit.core.data.statistics import normalize_inputs, standardize_targets


class BatchIndices(NamedTuple):
    """The positions (N,) that a process reads at its turn; not counted where they only fill it, see `Batch`.

    `keys` (N,) are what the random numbers of each depend on: where a sample comes again in an epoch, it has others.
    """

    positions: Tensor
    keys: Tensor
    is_counted: bool = True


@dataclass(frozen=True)
class BatchPlan:
    """Which positions of a split make up which batch, as a function of (seed, epoch).

    `drop_last` of "single" drops a last batch of one sample, on which batch norm cannot work; True drops any last batch
    that is short. A split's only batch is never dropped by "single".

    With `repeats` an epoch holds N samples as ever, N / repeats different ones so often each, and `repeats` epochs hold every sample
    exactly so often. DeiT's sampler (Touvron et al. 2021) picks each epoch's from all anew, so that some come more often than others.
    """

    num_samples: int
    batch_size: int
    seed: int
    shuffle: bool = False
    drop_last: bool | Literal["single"] = False
    sampling: DrawnSamples | None = field(default=None, kw_only=True)
    repeats: int = field(default=1, kw_only=True)

    @property
    def num_batches(self) -> int:
        """Batches of one epoch."""
        whole, rest = divmod(self.num_samples, self.batch_size)
        is_dropped = rest > 0 and (self.drop_last is True or (self.drop_last == "single" and rest == 1 and whole > 0))
        return whole + (rest > 0 and not is_dropped)

    def positions(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Yields the positions in each batch of an epoch from batch `start` on: int64 (N,)."""
        return (keys % self.num_samples for keys in self.keys(epoch, start))

    def keys(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Yields the same positions, plus `num_samples` for each time that a sample was drawn before, as numbers of their own."""
        order = self._order(epoch)
        for number in range(start, self.num_batches):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            # copies far apart: mixup pairs neighbours, and processes cut the batch where it stands
            yield batch if self.repeats == 1 else batch[(batch // self.num_samples).argsort(stable=True)]

    def _order(self, epoch: int) -> Tensor:
        order = torch.arange(self.num_samples)
        shuffling, turn = divmod(epoch, self.repeats)
        if self.shuffle:
            order = permutation(hash_key(self.seed, Stream.ORDER, shuffling), self.num_samples)
        if self.sampling is not None:
            order = self.sampling.keys(self.seed, epoch)[order]
        return repeat_samples(order, self.repeats, turn)

    def turns(self, epoch: int, start: int = 0) -> Iterator[BatchIndices]:
        """Yields what this process reads, batch by batch."""
        return (self.indices(keys) for keys in self.keys(epoch, start))

    def indices(self, keys: Tensor, *, is_counted: bool = True) -> BatchIndices:
        """Returns what these keys stand for."""
        return BatchIndices(keys % self.num_samples, keys, is_counted)


@dataclass(frozen=True)
class SharedBatches(BatchPlan):
    """Training: every batch of `batch_size` samples is cut into one piece per process.

    A short last batch is cut into fewer pieces, of two or three samples, where a batch norm could not work on one; who gets
    none takes part with a sample that is not counted.
    """

    rank: int = 0
    num_ranks: int = 1

    def turns(self, epoch: int, start: int = 0) -> Iterator[BatchIndices]:
        """This process's piece of each batch."""
        least = min(2, self.batch_size // self.num_ranks)
        for keys in self.keys(epoch, start):
            num_pieces = max(1, min(self.num_ranks, len(keys) // least))
            pieces = torch.tensor_split(keys, num_pieces)
            is_counted = self.rank < num_pieces
            yield self.indices(pieces[self.rank] if is_counted else keys[:1], is_counted=is_counted)


@dataclass(frozen=True)
class SharedTurns(BatchPlan):
    """Evaluation: processes take whole batches in turn. With `is_filled` all take equally many, the last uncounted."""

    rank: int = 0
    num_ranks: int = 1
    is_filled: bool = False

    def turns(self, epoch: int, start: int = 0) -> Iterator[BatchIndices]:
        """Yields the batches that are this process's."""
        batches = list(self.keys(epoch, start))
        own = [self.indices(keys) for keys in batches[self.rank :: self.num_ranks]]
        most = -(-len(batches) // self.num_ranks)
        filling = [self.indices(batches[0][:1], is_counted=False)] if self.is_filled and len(own) < most else []
        return iter([*own, *filling])


@dataclass(frozen=True)
class Finish:
    """The last steps of a batch: to the device, parted from masks, normalized and standardized, at the size of its epoch, mixed."""

    info: DataInfo
    device: torch.device
    seed: int
    mixing: MixingPlan | None = None
    sizes: SizePlan | None = None

    def __call__(self, raw: Tensor, targets: Tensor, turn: BatchIndices, *, epoch: int) -> Batch:
        """Returns a batch from raw inputs (N, ...), targets (N,) or (N, num_outputs) and the positions that they stand at."""
        raw = raw.to(self.device, non_blocking=True)
        if self.info.task == "segmentation":
            raw, masks = part_mask(raw)
            targets = masks.long()
        inputs = normalize_inputs(raw, self.info)
        targets = standardize_targets(targets, self.info).to(self.device, non_blocking=True)
        if self.sizes is not None:
            inputs = fit_image(inputs, self.sizes.at(epoch))
            targets = fit_masks(targets, self.sizes.at(epoch)) if self.info.task == "segmentation" else targets
        mixer = self.mixing.pick(self.seed, epoch, int(turn.keys[0])) if self.mixing else None
        if mixer is not None:
            if not targets.is_floating_point():
                targets = one_hot(targets, self.info.num_outputs).float()
            inputs, targets = mixer(inputs, targets, Draws(self.seed, epoch, turn.keys, (Stream.MIX,)))
        return Batch(inputs, targets, turn.positions, turn.is_counted)
