"""Splits that are read sample by sample, by loader processes if wanted.

Every sample is read under random generators that are seeded from (seed, epoch, position), so a batch is the same
whatever process reads it, and reading can begin at any batch.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dlkit.choices import SplitName
from dlkit.core.data.batching import BatchPlan, Finish
from dlkit.core.data.checks import check_label
from dlkit.core.data.contract import Batch
from dlkit.core.data.counter_rng import Draws, Stream, hash_key
from dlkit.core.data.samples import Samples
from dlkit.core.data.transforms import Pipeline
from dlkit.core.random_state import seeded_generators
from dlkit.errors import DataError, DlkitError
from dlkit.shapes import size_text

Item = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read, on its way from a loader process; exceptions would arrive wrapped in a
    traceback.
    """

    message: str


@dataclass(frozen=True)
class SampleReader(Dataset[Item | Failure]):
    """Samples by (epoch, position), read, transformed and checked; picklable for loader processes."""

    samples: Samples
    rows: Tensor
    pipeline: Pipeline
    seed: int
    num_classes: int | None
    ignored: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, int]) -> Item | Failure:
        epoch, position = item
        try:
            if self.samples.is_random or self.pipeline.unbatched:
                with seeded_generators(hash_key(self.seed, Stream.SAMPLE, epoch, position)):
                    return self._read(epoch, position)
            return self._read(epoch, position)
        except DlkitError as error:
            return Failure(str(error))
        except Exception as error:
            return Failure(f"{self.samples.name_of(int(self.rows[position]))}: {type(error).__name__}: {error}")

    def _read(self, epoch: int, position: int) -> Item:
        index = int(self.rows[position])
        value, target = self.samples.load(index)
        if self.num_classes is not None:
            check_label(target, self.num_classes, name=self.samples.name_of(index), ignored=self.ignored)
        else:
            target = (target if target.is_floating_point() else target.float()).reshape(-1)
        draws = Draws(self.seed, epoch, torch.tensor([position]), (Stream.AUGMENT,))
        return self.pipeline.run_sample(value, draws), target


def collate_items(items: list[Item | Failure]) -> tuple[Tensor, Tensor] | Failure:
    """Stack samples, or pass the first failure on."""
    read: list[Item] = []
    for item in items:
        if isinstance(item, Failure):
            return item
        read.append(item)
    shapes = {tuple(value.shape) for value, _ in read}
    if len(shapes) > 1:
        listed = ", ".join(size_text(shape) for shape in sorted(shapes)[:3])
        return Failure(
            f"samples differ in size ({listed}): set data.image_size, or crop or resize them by data.transforms"
        )
    return torch.stack([value for value, _ in read]), torch.stack([target for _, target in read])


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Lists of (epoch, position) for one DataLoader that serves all epochs; `enter` says where the next pass begins."""

    def __init__(self, plan: BatchPlan) -> None:
        self.plan, self.epoch, self.start = plan, 0, 0

    def enter(self, epoch: int, start: int) -> None:
        """Begin the next pass at a batch of an epoch."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        for turn in self.plan.turns(epoch, self.start):
            yield [(epoch, position) for position in turn.positions.tolist()]

    def __len__(self) -> int:
        return max(0, self.plan.num_batches - self.start)


@dataclass(frozen=True)
class LoaderOptions:
    """Options of torch's DataLoader."""

    num_workers: int = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_factor: int | None = None


@dataclass(frozen=True)
class LoaderSplit:
    """A split that is read sample by sample; `targets` are those of the split, (N,) or (N, num_outputs)."""

    name: SplitName
    reader: SampleReader
    targets: Tensor
    plan: BatchPlan
    finish: Finish
    options: LoaderOptions = field(default=LoaderOptions())
    _ahead: list[Batch] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def num_samples(self) -> int:
        """Samples in the split."""
        return len(self.reader)

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch."""
        return self.plan.num_batches

    @cached_property
    def _sampler(self) -> EpochSampler:
        return EpochSampler(self.plan)

    @cached_property
    def _loader(self) -> DataLoader[Any]:
        options = self.options
        return DataLoader(
            self.reader,
            batch_sampler=self._sampler,
            collate_fn=collate_items,
            num_workers=options.num_workers,
            pin_memory=options.pin_memory,
            persistent_workers=options.persistent_workers and options.num_workers > 0,
            # datasets from a user's file have a module that only a forked process knows
            multiprocessing_context="fork" if options.num_workers > 0 and sys.platform == "linux" else None,
            prefetch_factor=options.prefetch_factor if options.num_workers > 0 else None,
            # DataLoader draws a base seed for its workers; from here it does not touch the global generator
            generator=torch.Generator(),
        )

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the micro-batches of one epoch from number `start` on; one that was read ahead is not read again.

        Raises DataError, naming the sample, when one cannot be read.
        """
        ahead = self._ahead[:] if (epoch, start) == (0, 0) else []
        self._ahead.clear()
        yield from ahead
        if start + len(ahead) < self.num_batches:
            yield from self._read(epoch, start + len(ahead))

    def first_batch(self) -> Batch:
        """Returns a copy of the first micro-batch of epoch 0, which is kept until it is trained on."""
        if not self._ahead:
            self._ahead.append(next(self._read(0, 0)))
        return self._ahead[0].copied()

    def _read(self, epoch: int, start: int) -> Iterator[Batch]:
        self._sampler.enter(epoch, start)
        turns = self.plan.turns(epoch, start)
        for found in self._stacks():
            if isinstance(found, Failure):
                raise DataError(found.message)
            raw, targets = found
            yield self.finish(raw, targets, next(turns), epoch=epoch)

    def _stacks(self) -> Iterator[tuple[Tensor, Tensor] | Failure]:
        iterator = iter(self._loader)
        try:
            yield from iterator
        except (RuntimeError, OSError, EOFError) as error:
            # whatever goes wrong with a sample comes as a Failure; what is raised here is a process that is gone
            if self.options.num_workers == 0:
                raise
            stop_workers(iterator)
            raise DlkitError(
                f"a loader process ended unexpectedly ({error}). Often memory or /dev/shm ran out: "
                "try a smaller data.num_workers or data.prefetch_factor"
            ) from None

    def sample_targets(self) -> Tensor:
        """Returns targets of all samples by position."""
        return self.targets


def stop_workers(iterator: object) -> None:
    """End the processes of a DataLoader's iterator now.

    torch raises a RuntimeError wherever the main process happens to be when it learns that a worker of a living
    iterator died; waiting for the collector would let that come at any later time.
    """
    shutdown = getattr(iterator, "_shutdown_workers", None)
    if shutdown is not None:
        with suppress(RuntimeError):
            shutdown()
