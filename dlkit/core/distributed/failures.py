"""What a process sees when another one is gone: a collective that fails, told in words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from dlkit.core.distributed.world import World
from dlkit.errors import DlkitError, LostProcess, first_line

# what gloo and nccl say of a partner that closed its connection or does not answer
_SIGNS = (
    "connection closed", "connection reset", "connection refused", "broken pipe", "timed out", "timeout", "gloo/",
    "nccl", "socket", "process group",
)  # fmt: skip


@contextmanager
def explain_lost_processes(world: World, timeout_s: float) -> Iterator[None]:
    """Turn the errors of collectives into LostProcess. The process that ended first has told, or is told of, the cause."""
    try:
        yield
    except DlkitError:
        raise
    except (RuntimeError, dist.DistError) as error:
        reason = str(error).lower()
        if not isinstance(error, dist.DistError) and not any(sign in reason for sign in _SIGNS):
            raise
        raise LostProcess(
            f"process {world.rank} of {world.size}: another process ended or did not answer within {timeout_s:g} s "
            f"({first_line(error, 200)}). What was saved is intact; --resume goes on from there"
        ) from error
