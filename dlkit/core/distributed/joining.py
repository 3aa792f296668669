"""Joining the other processes of a run, as torchrun or `dlkit train --nproc` started them, and leaving them again."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from dlkit.config import Runtime
from dlkit.core.distributed.failures import explain_lost_processes
from dlkit.core.distributed.meeting import NobodyCame, agree_on_store
from dlkit.core.distributed.world import ALONE, World
from dlkit.errors import UsageError, first_line
from dlkit.quantities import parse_duration_s

STORE = "DLKIT_STORE"  # the file where processes meet that `dlkit train --nproc` started
# gloo's threads let go of the tensors of the last collective a little after it, and need Python for that: where it ends under
# them, the process aborts (torch 2.15: ~AsyncAllgatherWork waits for the GIL). Nobody can ask whether they have
PARTING_S = 0.3
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Meeting:
    """Where processes meet: a file that all can see, or the address of rank 0."""

    init_method: str
    words: str


def read_world(environment: Mapping[str, str] = os.environ) -> World:
    """This process's place, from the variables that torchrun sets; alone where there are none.

    Raises UsageError for variables that are missing or make no sense together.
    """
    if int_of(environment, "WORLD_SIZE", 1) == 1:
        return ALONE
    if missing := [name for name in ("RANK", "LOCAL_RANK") if name not in environment]:
        raise UsageError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']}, but {' and '.join(missing)} is not set; start with torchrun, which sets "
            "all of them, or with dlkit train --nproc N"
        )
    rank, size, local_rank = (int_of(environment, name, 0) for name in _NUMBERS[:3])
    local_size = int_of(environment, "LOCAL_WORLD_SIZE", local_rank + 1)
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        found = ", ".join(f"{name}={environment[name]}" for name in _NUMBERS if name in environment)
        raise UsageError(
            f"these do not fit together: {found}; RANK is below WORLD_SIZE, LOCAL_RANK below LOCAL_WORLD_SIZE"
        )
    restarts = int_of(environment, "TORCHELASTIC_RESTART_COUNT", 0)
    return World(rank, size, local_rank, local_size, launch=_name_launch(environment), restarts=restarts)


def int_of(environment: Mapping[str, str], name: str, default: int) -> int:
    """A whole number from the environment. Raises UsageError where it is none."""
    text = environment.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"the environment variable {name} is {text!r}; a whole number is needed") from None


def _name_launch(environment: Mapping[str, str]) -> str:
    """Which torchrun this is, "" for another program: its id, if it has one, and its process on this machine."""
    run_id, agent = environment.get("TORCHELASTIC_RUN_ID"), os.getppid()
    if run_id is None:
        return ""
    return f"{'' if run_id == 'none' else run_id} {socket.gethostname()}:{agent}:{_started(agent)}"


def _started(process: int) -> str:
    """When a process started, in ticks since boot, so that a number that is used again is told apart; "" where there is no /proc."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@contextmanager
def joined(runtime: Runtime) -> Iterator[World]:
    """The world of this process, with a process group while the block runs; without others, just the answer.

    Collectives run over gloo for tensors on the CPU and over nccl for those on CUDA. A group that was made before, by a program
    that calls dlkit, is used and left alone. Raises UsageError where the processes cannot meet, LostProcess when one
    disappears or does not answer within `runtime.timeout`.
    """
    world = read_world()
    if world.is_alone:
        yield world
        return
    timeout_s = parse_duration_s(runtime.timeout)
    world = replace(world, lockstep=runtime.parallel == "fsdp")
    with explain_lost_processes(world, timeout_s):
        if dist.is_initialized():
            yield world
            return
        _meet(world, _find_meeting(os.environ), runtime.device, timeout_s)
        try:
            # an agent counts the failures on its own machine only
            yield replace(world, restarts=max(world.gather_values(world.restarts)))
        finally:
            dist.destroy_process_group()
            time.sleep(PARTING_S)


def _find_meeting(environment: Mapping[str, str]) -> Meeting:
    if store := environment.get(STORE):
        return Meeting(f"file://{store}", store)
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]:
        raise UsageError(
            f"{' and '.join(missing)} is not set, so the processes do not know where rank 0 is; torchrun sets it, or: "
            "export MASTER_ADDR=<host of rank 0> MASTER_PORT=29500"
        )
    port = int_of(environment, "MASTER_PORT", 0)
    return Meeting("env://", f"{environment['MASTER_ADDR']}:{port}")


def _meet(world: World, meeting: Meeting, device_name: str, timeout_s: float) -> None:
    uses_cuda = device_name.startswith("cuda") or (device_name == "auto" and torch.cuda.is_available())
    timeout = timedelta(seconds=timeout_s)
    try:
        store, _, _ = next(rendezvous(meeting.init_method, world.rank, world.size, timeout=timeout))
        store.set_timeout(timeout)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if uses_cuda else "gloo",
            store=agree_on_store(store, world, timeout_s),
            rank=world.rank,
            world_size=world.size,
            timeout=timeout,
        )
    except NobodyCame as error:
        raise UsageError(_explain_waiting(world, meeting, timeout_s, f"rank {error}")) from error
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise UsageError(_explain_meeting(world, meeting, error, timeout_s)) from error


def _explain_meeting(world: World, meeting: Meeting, error: Exception, timeout_s: float) -> str:
    who, reason = f"process {world.rank} of {world.size}", str(error)
    if "EADDRINUSE" in reason or "address already in use" in reason.lower():
        return f"{meeting.words} is in use by another program; choose another MASTER_PORT (torchrun: --master-port)"
    if "timeout" in reason.lower() or "timed out" in reason.lower():
        return _explain_waiting(world, meeting, timeout_s, "the others")
    return f"{who} cannot join the others at {meeting.words}: {first_line(error)}"


def _explain_waiting(world: World, meeting: Meeting, timeout_s: float, whom: str) -> str:
    return (
        f"process {world.rank} of {world.size} waited {timeout_s:g} s at {meeting.words} for {whom}. Were all {world.size} "
        "started, with the same address, and can they reach each other? runtime.timeout waits longer"
    )
