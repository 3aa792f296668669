"""Loss and metrics of a model over a split: every sample once, by however many processes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice

import torch
from torch import Tensor, nn

from dlkit.core.data import Batch, Split
from dlkit.core.distributed import ALONE, World
from dlkit.core.evaluation.gathering import Part, gather_parts, part_of
from dlkit.core.models import eval_mode
from dlkit.core.scoring import Scoring
from dlkit.core.stopping import StopRequest
from dlkit.errors import LostLoader
from dlkit.events import Emit, Evaluating, Throttle, ignore
from dlkit.tasks import TaskTraits


def evaluate(
    model: nn.Module,
    split: Split,
    scoring: Scoring,
    *,
    most_batches: int | None = None,
    stop: StopRequest | None = None,
    world: World = ALONE,
    emit: Emit = ignore,
    watch: Callable[[Tensor, Batch], None] | None = None,
) -> dict[str, float] | None:
    """Returns the loss and the task's metrics over the split (or its first `most_batches` batches): the running one, and the one
    that judges, for which outputs are gathered where it does not follow from sums over batches. None when a stop was asked for.

    Several processes take whole batches in turn, and their sums are added in the order of the batches: the result is the
    same bits as that of one process. The model is in evaluation mode meanwhile; `watch` is shown the outputs of every batch.
    """
    found = _Found(scoring)
    with eval_mode(model), without_gradients(world):
        try:
            for batch in announced(split, most_batches, world, emit):
                with scoring.precision.autocast():
                    outputs = model(scoring.arrange(batch.inputs))
                    loss, weight = scoring.loss(outputs, batch.targets)
                if batch.is_counted:
                    found.add(outputs, batch, loss, weight)
                    if watch is not None:
                        watch(outputs, batch)
                if stop is not None and stop.is_asked and not world.lockstep:
                    break
        except LostLoader:  # what stops a run may stop all of it at once
            if stop is None or not stop.is_asked:
                raise
    if stop is not None and stop.is_shared:
        stop.settle(world.sum(torch.tensor(stop.votes())).tolist())
    sums = _in_turn(found.rows, split, scoring, world)
    if stop is not None and stop.is_due:
        return None
    return _means(sums, scoring) | _judged(found.parts, found.counts, scoring, world)


class _Found:
    """What is kept of the batches of a split: sums of each, and counts or outputs where the metric that judges needs them."""

    def __init__(self, scoring: Scoring) -> None:
        self.scoring, self.counts = scoring, CountSum(scoring)
        self.rows, self.parts = list[Tensor](), list[Part]()

    def add(self, outputs: Tensor, batch: Batch, loss: Tensor, weight: Tensor | float) -> None:
        """Take in a batch."""
        self.rows.append(self.scoring.new_meter().sums_of(outputs, batch.targets, loss, weight))
        if self.scoring.scores.traits.needs_all_outputs:
            self.parts.append(part_of(outputs, batch))
        self.counts.add(outputs, batch.targets)


def nothing_counts(traits: TaskTraits, split: str) -> str:
    """Returns a sentence on a split of which no sample, or of maps no pixel, is counted."""
    what = "pixel" if traits.has_maps else "sample"
    return f"no {what} of the {split} split counts: loss.ignore_index or data.ignored_colors leave out all"


class CountSum:
    """The sum of a task's counts over batches, where it has any."""

    def __init__(self, scoring: Scoring) -> None:
        self.scores, self.total = scoring.scores, torch.zeros((), dtype=torch.int64, device=scoring.precision.device)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in a batch."""
        found = self.scores.counts(outputs, targets)
        if found is not None:
            self.total = self.total + found

    def read(self, world: World) -> Tensor:
        """Returns the sum over all processes, int64 (C, C)."""
        num_classes = self.scores.info.num_outputs if self.scores.info and not self.total.ndim else 0
        # a process that had no batch has no counts either
        return world.sum(self.total if self.total.ndim else self.total.new_zeros(num_classes, num_classes))


def _means(sums: Iterator[Tensor], scoring: Scoring) -> dict[str, float]:
    meter = scoring.new_meter()
    for row in sums:
        meter.add_sums(row)
    return meter.read()


def _judged(parts: list[Part], counts: CountSum, scoring: Scoring, world: World) -> dict[str, float]:
    scores, traits = scoring.scores, scoring.scores.traits
    if traits.has_maps:
        return {traits.judging: scores.judge(counts.read(world))[traits.judging]}
    if not traits.needs_all_outputs:
        return {}
    whole = gather_parts(parts, world)
    return {traits.judging: scores.summarize(whole.outputs, whole.targets)[traits.judging]}


def without_gradients(world: World) -> AbstractContextManager[None]:
    """Returns a context for forward passes that are not trained on."""
    # weights that are gathered for a forward pass are kept and written to again, which inference mode forbids
    return torch.no_grad() if world.lockstep else torch.inference_mode()


def announced(split: Split, most_batches: int | None, world: World, emit: Emit) -> Iterator[Batch]:
    """Yields the batches of a split that are this process's, reported on a timer."""
    throttle = Throttle()
    for index, batch in enumerate(islice(split.batches(), most_batches)):
        yield batch
        if throttle.is_due():
            emit(Evaluating(split.name, min((index + 1) * world.size, split.num_batches), split.num_batches))


def _in_turn(rows: list[Tensor], split: Split, scoring: Scoring, world: World) -> Iterator[Tensor]:
    """Yields the sums of all batches in the order of the batches: rank 0's first, rank 1's first, ... rank 0's second."""
    if world.is_alone:
        return iter(rows)
    most = -(-split.num_batches // world.size)
    padded = torch.stack([*rows, *[scoring.new_meter().sums] * (most - len(rows))])
    return (row for turn in zip(*world.gather(padded), strict=True) for row in turn)
