"""Splits that are read sample by sample, by loader processes if wanted.

Every sample is read under random generators that are seeded from (seed, epoch, position), so a batch is the same
whatever process reads it, and reading can begin at any batch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dlkit.choices import SplitName
from dlkit.core.components import own_code
from dlkit.core.data.batching import BatchPlan, Finish
from dlkit.core.data.checks import TargetForm
from dlkit.core.data.contract import Batch
from dlkit.core.data.counter_rng import Draws, Stream, hash_key
from dlkit.core.data.samples import Samples
from dlkit.core.data.time_limit import time_limit, too_slow
from dlkit.core.data.transforms import Pipeline
from dlkit.core.data.worker_processes import (
    POLL_S,
    Patience,
    ReadingNow,
    begin_workers,
    end_workers,
    enter_worker,
    start_method,
)
from dlkit.core.out_of_memory import is_out_of_memory, out_of_memory_at
from dlkit.core.random_state import seeded_generators
from dlkit.errors import DataError, DlkitError, LostLoader, OutOfResource
from dlkit.shapes import size_text

Item = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read, on its way from a loader process; exceptions would arrive wrapped in a
    traceback.
    """

    message: str
    kind: type[DlkitError] = DataError


@dataclass(frozen=True)
class SampleReader(Dataset[Item | Failure]):
    """Samples by (epoch, key), see `BatchIndices`, read, transformed and checked; picklable for loader processes.

    `reading` is where these note what they read. In this process, a sample may take `timeout_s`.
    """

    samples: Samples
    rows: Tensor
    pipeline: Pipeline
    seed: int
    form: TargetForm
    timeout_s: float | None = None
    reading: ReadingNow | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # a process that is started anew needs the user's own modules before it can read the rest
        return _rebuild_reader, (own_code(), *(getattr(self, part.name) for part in fields(self)))

    def __len__(self) -> int:
        return len(self.rows)

    def name_of(self, position: int) -> str:
        """Returns what to call the sample at a position."""
        return self.samples.name_of(int(self.rows[position]))

    def __getitem__(self, item: tuple[int, int]) -> Item | Failure:
        epoch, key = item
        position = key % len(self)
        limit = self.reading.noted(position) if self.reading else time_limit(self.timeout_s, self.name_of, position)
        with limit:
            return self._attempt(epoch, position, key)

    def _attempt(self, epoch: int, position: int, key: int) -> Item | Failure:
        try:
            if self.samples.is_random or self.pipeline.unbatched:
                with seeded_generators(hash_key(self.seed, Stream.SAMPLE, epoch, key)):
                    return self._read(epoch, position, key)
            return self._read(epoch, position, key)
        except DlkitError as error:
            return Failure(str(error), type(error) if type(error) in (DataError, OutOfResource) else DataError)
        except Exception as error:
            if is_out_of_memory(error):
                return Failure(str(out_of_memory_at(self.name_of(position), error)), OutOfResource)
            return Failure(f"{self.name_of(position)}: {type(error).__name__}: {error}")

    def _read(self, epoch: int, position: int, key: int) -> Item:
        index = int(self.rows[position])
        value, target = self.samples.load(index)
        target = self.form.shaped(target, name=self.samples.name_of(index))
        draws = Draws(self.seed, epoch, torch.tensor([key]), (Stream.AUGMENT,))
        return self.pipeline.run_sample(value, draws), target


def _rebuild_reader(_: object, *parts: Any) -> SampleReader:
    return SampleReader(*parts)


def collate_items(items: list[Item | Failure]) -> tuple[Tensor, Tensor] | Failure:
    """Stack samples, or pass the first failure on."""
    read: list[Item] = []
    for item in items:
        if isinstance(item, Failure):
            return item
        read.append(item)
    shapes = {tuple(value.shape) for value, _ in read}
    if len(shapes) > 1:
        is_depth_same = (
            len({shape[:-2] for shape in shapes}) == 1
        )  # a mask is one more channel, which nobody need know of
        listed = ", ".join(size_text(shape[-2:] if is_depth_same else shape) for shape in sorted(shapes)[:3])
        return Failure(
            f"samples differ in size ({listed}): set data.image_size, or crop or resize them by data.transforms"
        )
    return torch.stack([value for value, _ in read]), torch.stack([target for _, target in read])


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Lists of (epoch, key) for one DataLoader that serves all epochs; `enter` says where the next pass begins."""

    def __init__(self, plan: BatchPlan) -> None:
        self.plan, self.epoch, self.start = plan, 0, 0

    def enter(self, epoch: int, start: int) -> None:
        """Begin the next pass at a batch of an epoch."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        for turn in self.plan.turns(epoch, self.start):
            yield [(epoch, key) for key in turn.keys.tolist()]

    def __len__(self) -> int:
        return max(0, self.plan.num_batches - self.start)


@dataclass(frozen=True)
class LoaderOptions:
    """Options of torch's DataLoader."""

    num_workers: int = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_factor: int | None = None
    timeout_s: float | None = None


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
    def _reading(self) -> ReadingNow:
        return ReadingNow(self.options.num_workers)

    @cached_property
    def _loader(self) -> DataLoader[Any]:
        options, has_workers = self.options, self.options.num_workers > 0
        return DataLoader(
            replace(self.reader, reading=self._reading) if has_workers else self.reader,
            batch_sampler=self._sampler,
            collate_fn=collate_items,
            num_workers=options.num_workers,
            pin_memory=options.pin_memory,
            persistent_workers=options.persistent_workers and has_workers,
            multiprocessing_context=start_method() if has_workers else None,
            prefetch_factor=options.prefetch_factor if has_workers else None,
            worker_init_fn=enter_worker,
            timeout=POLL_S if has_workers else 0,
            # DataLoader draws a base seed for its workers; from here it does not touch the global generator
            generator=torch.Generator(),
        )

    def without_workers(self) -> "LoaderSplit":
        """Returns the same split, read by this process."""
        return replace(self, options=LoaderOptions(timeout_s=self.options.timeout_s))

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
                raise found.kind(found.message)
            raw, targets = found
            yield self.finish(raw, targets, next(turns), epoch=epoch)

    def _stacks(self) -> Iterator[tuple[Tensor, Tensor] | Failure]:
        if self.options.num_workers == 0:
            yield from self._loader
            return
        iterator = begin_workers(self._loader)
        while True:
            try:
                found = self._wait(iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                # whatever goes wrong with a sample comes as a Failure; what is raised here is a process that is gone
                end_workers(iterator)
                raise LostLoader(
                    f"a loader process ended unexpectedly ({error}). Often memory or /dev/shm ran out: "
                    "try a smaller data.num_workers or data.prefetch_factor"
                ) from None
            yield found

    def _wait(self, iterator: Iterator[Any]) -> Any:
        """Returns the next batch. Raises DataError naming the sample when reading one takes too long."""
        patience: Patience | None = None
        while True:
            try:
                return next(iterator)
            except RuntimeError as error:
                if "timed out after" not in str(error):
                    raise
            patience = patience or Patience(self._reading.snapshot, self.options.timeout_s or math.inf)
            if (late := patience.wait_more(POLL_S)) is not None:
                end_workers(iterator)
                raise too_slow(self.reader.name_of(late), self.options.timeout_s)

    def name_of(self, position: int) -> str:
        """Returns what to call the sample at a position."""
        return self.reader.samples.name_of(int(self.reader.rows[position]))

    def sample_targets(self) -> Tensor:
        """Returns targets of all samples by position."""
        return self.targets

    def sample_numbers(self) -> Tensor:
        """Returns the number of each sample in the data set by position."""
        return self.reader.rows
