"""What all processes of a run must have in common before they begin."""

import re
from importlib import metadata
from typing import Any

from dlkit import __version__
from dlkit.config import LoadedConfig, dump_config
from dlkit.core.distributed.world import World
from dlkit.errors import UsageError


def check_same_program(loaded: LoadedConfig, world: World) -> None:
    """Raise UsageError, on all processes, when one runs another version or another config."""
    if world.is_alone:
        return
    config = _without_folders(dump_config(loaded.config))
    own = {"dlkit": __version__, "torch": metadata.version("torch"), "config": config}
    first, *others = world.gather_values(own)
    for rank, other in enumerate(others, start=1):
        for what in own:
            if other[what] != first[what]:
                raise UsageError(f"the processes differ: {_difference(what, first[what], other[what], rank)}")


def _without_folders(config: str) -> str:
    """The config without what may differ between machines: the folders in which data, code and runs lie."""
    lines = [line for line in config.splitlines() if not line.startswith(("  root: ", "  out: "))]
    return "\n".join(re.sub(r"(?<!\S)/\S*/", "", line) for line in lines)


def _difference(what: str, first: Any, other: Any, rank: int) -> str:
    if what != "config":
        return f"rank 0 runs {what} {first}, rank {rank} runs {other}; install the same version on all machines"
    lines = zip(first.splitlines(), other.splitlines(), strict=False)
    mine, theirs = next(((one, two) for one, two in lines if one != two), ("fewer lines", "more lines"))
    return f"the config of rank 0 says {mine.strip()!r}, that of rank {rank} {theirs.strip()!r}; give all the same file and options"
