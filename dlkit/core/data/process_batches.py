"""Which part of each batch, or which batches, are read by one of several processes.

The batches are those of one process with a batch size as large as all together, so that the same samples make up the same
update on any number of processes. Nothing is padded and nothing is read twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dlkit.core.data.batching import BatchIndices, BatchPlan


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
        for positions in self.positions(epoch, start):
            num_pieces = max(1, min(self.num_ranks, len(positions) // least))
            pieces = torch.tensor_split(positions, num_pieces)
            yield (
                BatchIndices(pieces[self.rank])
                if self.rank < num_pieces
                else BatchIndices(positions[:1], is_counted=False)
            )


@dataclass(frozen=True)
class SharedTurns(BatchPlan):
    """Evaluation: processes take whole batches in turn. With `is_filled` all take equally many, the last uncounted."""

    rank: int = 0
    num_ranks: int = 1
    is_filled: bool = False

    def turns(self, epoch: int, start: int = 0) -> Iterator[BatchIndices]:
        """The batches that are this process's."""
        batches = list(self.positions(epoch, start))
        own = [BatchIndices(positions) for positions in batches[self.rank :: self.num_ranks]]
        most = -(-len(batches) // self.num_ranks)
        filling = [BatchIndices(batches[0][:1], is_counted=False)] if self.is_filled and len(own) < most else []
        return iter([*own, *filling])
