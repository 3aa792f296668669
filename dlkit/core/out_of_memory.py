"""Running out of memory, told in words."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dlkit.config import Config
from dlkit.errors import OutOfResource, first_line


@contextmanager
def explain_out_of_memory(config: Config) -> Iterator[None]:
    """Turn torch's out-of-memory errors into OutOfResource with settings that need less and train the same."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfResource(f"out of memory: {first_line(error)}\n{_advice(config)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is torch's, on any device, or python's way of saying that memory ran out."""
    is_kind = isinstance(error, torch.OutOfMemoryError | MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return is_kind or "allocate memory" in str(error)


def out_of_memory_at(name: str, error: BaseException) -> OutOfResource:
    """Returns what to raise when memory ran out at one sample."""
    return OutOfResource(
        f"{name}: memory ran out while it was read ({first_line(error)}). Make samples smaller before they are decoded, or let "
        "fewer be read at a time: data.num_workers, data.prefetch_factor, data.batch_size"
    )


def _advice(config: Config) -> str:
    batch_size, accumulate = config.data.batch_size, config.train.accumulate
    tips = []
    if batch_size > 1:
        tips.append(
            f"data.batch_size={max(batch_size // 2, 1)} train.accumulate={accumulate * 2} trains the same in half the activations"
        )
    if not config.train.gradient_checkpointing:
        tips.append("train.gradient_checkpointing=true trades time for memory")
    return "; ".join(tips)
