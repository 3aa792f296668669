"""Whether samples are kept in memory, and bringing them there."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlkit.config.loaded import LoadedConfig
from dlkit.core.data.counter_rng import Draws, Stream, hash_key
from dlkit.core.data.parts import Part, Parts
from dlkit.core.data.samples import TensorSamples
from dlkit.core.data.scan import run_on_all
from dlkit.core.data.transforms import Pipeline, Step
from dlkit.core.random_state import seeded_generators
from dlkit.errors import DataError

GIB = 1 << 30
_CHUNK = 1024


def memory_budget() -> int:
    """Bytes that samples may take: a quarter of the machine's memory, at most 2 GiB."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2 * GIB
    return min(2 * GIB, total // 4)


def pick_memory(
    loaded: LoadedConfig, parts: Parts, *, train: Pipeline, evaluation: Pipeline, num_holders: int = 1
) -> tuple[bool, list[str]]:
    """Whether all parts are kept in memory, and why not where that is not plain. So many processes keep them.

    Raises ConfigError where `cache: memory` cannot be.
    """
    cache = loaded.config.data.cache
    if cache == "memory":
        check_batchable(loaded, "transforms", train)
        check_batchable(loaded, "eval_transforms", evaluation)
        return True, []
    why = _obstacle(parts, train, evaluation, memory_budget() // num_holders) if cache == "auto" else []
    return cache == "auto" and not why, why


def check_batchable(loaded: LoadedConfig, key: str, pipeline: Pipeline) -> None:
    """Raises ConfigError at the first transform that keeps samples out of memory."""
    for step in pipeline.unbatched:
        message = f"{step.name} works on single samples only, so data.cache cannot be memory; set cache: auto"
        raise loaded.error(("data", key, step.place or 0, "name"), message)


def _obstacle(parts: Parts, train: Pipeline, evaluation: Pipeline, budget: int) -> list[str]:
    if unbatched := (*train.unbatched, *evaluation.unbatched):
        return [f"samples are transformed one by one, because {unbatched[0].name} has no form for whole batches"]
    if any(part.samples.is_random for part in parts.listed()):
        return ["samples are read anew each epoch, as the data set is your own code; data.cache=memory reads each once"]
    if all(isinstance(part.samples, TensorSamples) for part in parts.listed()):
        return []
    needed, most = bytes_needed(parts, evaluation) / GIB, budget / GIB
    if needed <= most:
        return []
    return [
        f"samples are read anew each epoch: in memory they would take {needed:.1f} GiB, and {most:.1f} GiB is the most"
    ]


def bytes_needed(parts: Parts, pipeline: Pipeline) -> int:
    """Bytes of all samples after the transforms that are done once, judged by the first."""
    first = run_fixed(parts.train, pipeline.split_fixed()[0], 0)
    return sum(len(part.rows) for part in parts.listed()) * first.numel() * first.element_size()


def run_fixed(part: Part, fixed: Pipeline, position: int) -> Tensor:
    """One raw sample of a part after transforms without random choice."""
    index = int(part.rows[position])
    if not part.samples.is_random:
        return fixed.run_sample(part.samples.load(index)[0], no_draws())
    with seeded_generators(hash_key(0, Stream.SAMPLE, 0, index)):
        return fixed.run_sample(part.samples.load(index)[0], no_draws())


def no_draws() -> Draws:
    """Draws for transforms that make no use of them."""
    return Draws(0, None, torch.zeros(1, dtype=torch.int64))


@dataclass(frozen=True)
class Stored:
    """Inputs in memory (M, ...), the rows of them that make up a part (N,), and the transforms that they have gone
    through.
    """

    inputs: Tensor
    rows: Tensor
    steps: tuple[Step, ...]


def load_part(part: Part, pipeline: Pipeline, *, device: torch.device) -> Stored:
    """All samples of a part, transformed as far as can be done once.

    Raises DataError naming every file that cannot be read, or samples that differ in size.
    """
    fixed = pipeline.split_fixed()[0]
    if not isinstance(part.samples, TensorSamples):
        return _on_device(Stored(_decode_part(part, fixed), torch.arange(len(part.rows)), fixed.steps), device)
    inputs = part.samples.inputs
    if not fixed.steps or _grows_too_large(part, fixed):
        return _on_device(Stored(inputs, part.rows, ()), device)
    chunks = [fixed.run_batch(inputs[rows], no_draws()) for rows in torch.split(part.rows, _CHUNK)]
    return _on_device(Stored(torch.cat(chunks), torch.arange(len(part.rows)), fixed.steps), device)


def _on_device(stored: Stored, device: torch.device) -> Stored:
    if device.type != "cuda":
        return stored
    free, _ = torch.cuda.mem_get_info(device)
    is_small = stored.inputs.numel() * stored.inputs.element_size() <= free // 4
    return replace(stored, inputs=stored.inputs.to(device)) if is_small else stored


def _grows_too_large(part: Part, fixed: Pipeline) -> bool:
    first = run_fixed(part, fixed, 0)
    return len(part.rows) * first.numel() * first.element_size() > memory_budget()


def _decode_part(part: Part, fixed: Pipeline) -> Tensor:
    first = run_fixed(part, fixed, 0)
    store = torch.empty(len(part.rows), *first.shape, dtype=first.dtype)

    def fill(position: int) -> None:
        value = run_fixed(part, fixed, position)
        if (value.shape, value.dtype) != (first.shape, first.dtype):
            name = part.samples.name_of(int(part.rows[position]))
            way_out = "set data.image_size, or resize by data.transforms"
            raise DataError(f"{name}: is {_size(value)} where the first sample is {_size(first)}; {way_out}")
        store[position] = value

    positions = range(len(part.rows))
    if part.samples.is_slow:
        run_on_all(fill, positions)
    else:
        for position in positions:
            fill(position)
    return store


def _size(value: Tensor) -> str:
    return f"{'x'.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}"


def input_chunks(inputs: Tensor, rows: Tensor, pipeline: Pipeline, *, first: int) -> Iterator[Tensor]:
    """Rows of stored inputs through a pipeline, some at a time."""
    for chunk in torch.split(rows, _CHUNK):
        yield pipeline.run_batch(inputs[chunk], Draws(0, 0, chunk), first=first)
