"""How processes find each other in a store that may still hold what an earlier attempt wrote.

torchrun keeps one store over its restarts. gloo reads there the addresses of partners, and whoever comes first after a
restart would read those of processes that are gone, and wait for them until the timeout. So each attempt gets a part of the
store of its own: everybody says that it is here, rank 0 calls all who are by the words that they said, and when each has
answered to its own word, they go on under the name of that call.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from functools import partial

from torch.distributed import PrefixStore, Store

from dlkit.core.distributed.world import World

_CALL = "dlkit/call"
_POLL_S = 0.01


class NobodyCame(Exception):
    """Not all processes were here in time; says which."""


def agree_on_store(store: Store, world: World, timeout_s: float) -> Store:
    """The part of the store that belongs to this attempt alone; the same on all processes. Raises NobodyCame."""
    word = secrets.token_hex(8)
    store.set(_here(world.rank), word)
    step = partial(_call_all, store, world) if world.is_main else partial(_answer, store, world, word)
    return PrefixStore(f"dlkit/{_poll(step, store, world, timeout_s)}", store)


def _poll(step: Callable[[], str | None], store: Store, world: World, timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    while (name := step()) is None:
        if time.monotonic() > deadline:
            missing = [str(rank) for rank in range(world.size) if not store.check([_here(rank)])]
            raise NobodyCame(", ".join(missing) or "0")
        time.sleep(_POLL_S)
    return name


def _call_all(store: Store, world: World) -> str | None:
    """What rank 0 does: call who is here, and say so when all have answered. Words that come late change the call."""
    here = [_here(rank) for rank in range(world.size)]
    if not store.check(here):
        return None
    call = ",".join(store.get(key).decode() for key in here)
    name = _name(call)
    store.set(_CALL, call)
    if not store.check([_answered(name, rank) for rank in range(1, world.size)]):
        return None
    store.set(_gone_on(name), "")
    return name


def _answer(store: Store, world: World, word: str) -> str | None:
    """What the others do: answer a call that has their own word in it, and go on when rank 0 does."""
    call = store.get(_CALL).decode() if store.check([_CALL]) else ""
    words = call.split(",")
    if len(words) != world.size or words[world.rank] != word:
        return None
    store.set(_answered(_name(call), world.rank), "")
    return _name(call) if store.check([_gone_on(_name(call))]) else None


def _here(rank: int) -> str:
    return f"dlkit/here/{rank}"


def _name(call: str) -> str:
    return hashlib.sha256(call.encode()).hexdigest()[:16]


def _answered(name: str, rank: int) -> str:
    return f"dlkit/{name}/answered/{rank}"


def _gone_on(name: str) -> str:
    return f"dlkit/{name}/gone-on"
