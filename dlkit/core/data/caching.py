"""Samples in memory: whether they are kept there, how they get there, and the split that reads them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlkit.choices import SplitName
from dlkit.config import LoadedConfig
from dlkit.core.data.batching import BatchPlan, Finish
from dlkit.core.data.contract import Batch
from dlkit.core.data.counter_rng import Draws, Stream
from dlkit.core.data.samples import TensorSamples
from dlkit.core.data.subsets import Subset, Subsets
from dlkit.core.data.transforms import Pipeline, TransformStep
from dlkit.core.devices import machine_memory
from dlkit.errors import DataError
from dlkit.shapes import size_text

GIB = 1 << 30
_CHUNK = 1024


def memory_budget() -> int:
    """Returns the bytes that samples may take: a quarter of the machine's memory, at most 2 GiB."""
    total = machine_memory()
    return 2 * GIB if total is None else min(2 * GIB, total // 4)


def pick_memory(
    loaded: LoadedConfig, subsets: Subsets, *, train: Pipeline, evaluation: Pipeline, num_holders: int = 1
) -> tuple[bool, list[str]]:
    """Returns whether all subsets are kept in memory, by `num_holders` processes, and why not where that is not plain.

    Raises ConfigError where `cache: memory` cannot be.
    """
    cache = loaded.config.data.cache
    if cache == "memory":
        check_batchable(loaded, "transforms", train)
        check_batchable(loaded, "eval_transforms", evaluation)
        return True, []
    may_be = cache in ("auto", "disk")
    why = _obstacle(subsets, train, evaluation, memory_budget() // num_holders) if may_be else []
    return may_be and not why, why


def check_batchable(loaded: LoadedConfig, key: str, pipeline: Pipeline) -> None:
    """Raises ConfigError at the first transform that keeps samples out of memory."""
    for step in pipeline.unbatched:
        message = f"{step.name} works on single samples only, so data.cache cannot be memory; set cache: auto"
        raise loaded.error(("data", key, step.place or 0, "name"), message)


def _obstacle(subsets: Subsets, train: Pipeline, evaluation: Pipeline, budget: int) -> list[str]:
    if unbatched := (*train.unbatched, *evaluation.unbatched):
        return [f"samples are transformed one by one, because {unbatched[0].name} has no form for whole batches"]
    if any(subset.samples.is_random for subset in subsets.listed()):
        return ["samples are read anew each epoch, as the data set is your own code; data.cache=memory reads each once"]
    if all(isinstance(subset.samples, TensorSamples) for subset in subsets.listed()):
        return []
    needed, most = bytes_needed(subsets, evaluation) / GIB, budget / GIB
    if needed <= most:
        return []
    return [
        f"samples are read anew each epoch: in memory they would take {needed:.1f} GiB, and {most:.1f} GiB is the most"
    ]


def bytes_needed(subsets: Subsets, pipeline: Pipeline) -> int:
    """Returns the bytes of all samples after the transforms that are done once, if all are as large as the first."""
    first = pipeline.split_fixed()[0].run_sample(subsets.train.raw(0), no_draws())
    return sum(len(subset.rows) for subset in subsets.listed()) * first.numel() * first.element_size()


def no_draws() -> Draws:
    """Returns draws for transforms that make no use of them."""
    return Draws(0, None, torch.zeros(1, dtype=torch.int64))


@dataclass(frozen=True)
class StoredSamples:
    """Inputs in memory (M, ...), the rows of them that make up a subset (N,), and the transforms that they have gone
    through.
    """

    inputs: Tensor
    rows: Tensor
    steps: tuple[TransformStep, ...]


def load_subset(subset: Subset, pipeline: Pipeline, *, device: torch.device) -> StoredSamples:
    """Read all samples of a subset and transform them as far as can be done once.

    Raises DataError naming every file that cannot be read, or samples that differ in size.
    """
    fixed = pipeline.split_fixed()[0]
    if not isinstance(subset.samples, TensorSamples):
        return _on_device(
            StoredSamples(_decode_subset(subset, fixed), torch.arange(len(subset.rows)), fixed.steps), device
        )
    inputs = subset.samples.inputs
    if not fixed.steps or _grows_too_large(subset, fixed):
        return _on_device(StoredSamples(inputs, subset.rows, ()), device)
    chunks = [fixed.run_batch(inputs[rows], no_draws()) for rows in torch.split(subset.rows, _CHUNK)]
    return _on_device(StoredSamples(torch.cat(chunks), torch.arange(len(subset.rows)), fixed.steps), device)


def _on_device(stored: StoredSamples, device: torch.device) -> StoredSamples:
    if device.type != "cuda":
        return stored
    free, _ = torch.cuda.mem_get_info(device)
    is_small = stored.inputs.numel() * stored.inputs.element_size() <= free // 4
    return replace(stored, inputs=stored.inputs.to(device)) if is_small else stored


def _grows_too_large(subset: Subset, fixed: Pipeline) -> bool:
    first = fixed.run_sample(subset.raw(0), no_draws())
    return len(subset.rows) * first.numel() * first.element_size() > memory_budget()


def _decode_subset(subset: Subset, fixed: Pipeline) -> Tensor:
    first = fixed.run_sample(subset.raw(0), no_draws())
    store = torch.empty(len(subset.rows), *first.shape, dtype=first.dtype)

    def fill(position: int) -> None:
        value = fixed.run_sample(subset.raw(position), no_draws())
        if (value.shape, value.dtype) != (first.shape, first.dtype):
            name = subset.samples.name_of(int(subset.rows[position]))
            way_out = "set data.image_size, or resize by data.transforms"
            sizes = [_size(one[:-1] if subset.has_masks else one) for one in (value, first)]
            raise DataError(f"{name}: is {sizes[0]} where the first sample is {sizes[1]}; {way_out}")
        store[position] = value

    subset.map(fill, range(len(subset.rows)))
    return store


def _size(value: Tensor) -> str:
    return f"{size_text(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def input_chunks(inputs: Tensor, rows: Tensor, pipeline: Pipeline, *, first: int) -> Iterator[Tensor]:
    """Run rows of stored inputs through a pipeline, some at a time."""
    for chunk in torch.split(rows, _CHUNK):
        yield pipeline.run_batch(inputs[chunk], Draws(0, 0, chunk), first=first)


@dataclass(frozen=True)
class MemorySplit:
    """A split whose samples are rows of tensors that other splits may share.

    `inputs` (M, ...) have gone through the first `steps_done` transforms of their pipeline, `pipeline` is what remains;
    `rows` (N,) says which of them, in which order, make up this split; `targets` are those of the split (N,) or (N,
    num_outputs); `names` tells what to call the sample at a position, `numbers` which it is in the data set, where those are not `rows`.
    """

    name: SplitName
    inputs: Tensor
    rows: Tensor
    targets: Tensor
    plan: BatchPlan
    pipeline: Pipeline
    finish: Finish
    steps_done: int = 0
    names: Callable[[int], str] = "sample {}".format
    numbers: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """Samples in the split."""
        return len(self.rows)

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch."""
        return self.plan.num_batches

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the micro-batches of one epoch from number `start` on."""
        for turn in self.plan.turns(epoch, start):
            raw = self.inputs.index_select(0, self.rows[turn.positions].to(self.inputs.device))
            raw = self.pipeline.run_batch(
                raw, Draws(self.plan.seed, epoch, turn.keys, (Stream.AUGMENT,)), first=self.steps_done
            )
            yield self.finish(raw, self.targets[turn.positions], turn, epoch=epoch)

    def without_workers(self) -> "MemorySplit":
        """Returns itself, as nobody else reads for it."""
        return self

    def first_batch(self) -> Batch:
        """Returns the first micro-batch of epoch 0."""
        return next(self.batches())

    def name_of(self, position: int) -> str:
        """Returns what to call the sample at a position."""
        return self.names(position)

    def sample_targets(self) -> Tensor:
        """Returns targets of all samples by position."""
        return self.targets

    def sample_numbers(self) -> Tensor:
        """Returns the number of each sample in the data set by position."""
        return self.rows if self.numbers is None else self.numbers
