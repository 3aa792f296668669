"""Splits that are kept in memory as whole tensors and are augmented a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from dlkit.choices import SplitName
from dlkit.core.data.batching import BatchPlan, Finish
from dlkit.core.data.contract import Batch
from dlkit.core.data.counter_rng import Draws, Stream
from dlkit.core.data.transforms import Pipeline


@dataclass(frozen=True)
class MemorySplit:
    """A split whose samples are rows of tensors that other splits may share.

    `inputs` (M, ...) have gone through the first `steps_done` transforms of their pipeline, `pipeline` is what remains;
    `rows` (N,) says which of them, in which order, make up this split; `targets` are those of the split (N,) or (N,
    num_outputs).
    """

    name: SplitName
    inputs: Tensor
    rows: Tensor
    targets: Tensor
    plan: BatchPlan
    pipeline: Pipeline
    finish: Finish
    steps_done: int = 0

    @property
    def num_samples(self) -> int:
        """Samples in the split."""
        return len(self.rows)

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch."""
        return self.plan.num_batches

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The micro-batches of one epoch from number `start` on."""
        for turn in self.plan.turns(epoch, start):
            positions = turn.positions
            raw = self.inputs.index_select(0, self.rows[positions].to(self.inputs.device))
            raw = self.pipeline.run_batch(
                raw, Draws(self.plan.seed, epoch, positions, (Stream.AUGMENT,)), first=self.steps_done
            )
            yield self.finish(raw, self.targets[positions], turn, epoch=epoch)

    def sample_targets(self) -> Tensor:
        """Targets of all samples by position."""
        return self.targets
