"""Samples to measure a trained network on: some of the training split, as evaluation prepares them, in an order by seed.

Evaluation's transforms and normalization, since measuring on inputs that look otherwise than those in use is the most
common way to spoil a quantized network.
"""

from dataclasses import replace

import torch
from torch import Tensor

from dlkit.config import LoadedConfig
from dlkit.core.data.caching import GIB, memory_budget
from dlkit.core.data.contract import DataInfo
from dlkit.core.data.counter_rng import Stream, hash_key, permutation
from dlkit.core.data.eval_splits import build_ordered_split
from dlkit.core.data.matching import match_source
from dlkit.core.data.opening import open_source
from dlkit.core.data.subsets import pick_subsets
from dlkit.errors import DataError, UsageError
from dlkit.shapes import size_text


def draw_calibration(
    loaded: LoadedConfig, info: DataInfo, *, count: int, seed: int, batch_size: int = 32
) -> list[Tensor]:
    """At most `count` training inputs in batches, float32 (N, *input_size), normalized as the model takes them.

    Which samples they are, and their order, depends on `seed`; what is held out depends on the config's own seed, as in
    training. Raises DataError when the samples do not fit the model and UsageError when they would fill the memory.
    """
    _check_memory(info, count)
    own_seed = loaded.config.seed
    source = match_source(open_source(loaded, seed=own_seed, known=info), info)
    subset = pick_subsets(loaded, source, task=info.task, seed=own_seed).train
    order = permutation(hash_key(seed, Stream.CALIBRATION), len(subset.rows))[:count]
    drawn = replace(subset, rows=subset.rows[order], targets=subset.targets[order])
    cpu = torch.device("cpu")
    split = build_ordered_split(loaded, source, drawn, info=info, device=cpu, batch_size=batch_size)
    batches = [batch.inputs for batch in split.batches()]
    _checksize_text(batches[0], info)
    return batches


def _check_memory(info: DataInfo, count: int) -> None:
    needed = 4 * count * torch.Size(info.input_size).numel()
    if needed > memory_budget():
        raise UsageError(
            f"{count} calibration samples would take {needed / GIB:.1f} GiB of memory, {memory_budget() / GIB:.1f} GiB is "
            "the most; take fewer with --calib"
        )


def _checksize_text(inputs: Tensor, info: DataInfo) -> None:
    given, wanted = tuple(inputs.shape[1:]), tuple(info.input_size)
    if info.kind == "image" and given != wanted:
        raise DataError(
            f"the model takes images of {size_text(wanted)}, these samples are {size_text(given)}; "
            f"set data.image_size: [{wanted[1]}, {wanted[2]}] in the config of --data"
        )
