"""Which device to use, and torch's process-wide settings for the length of a run."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dlkit.core.distributed import ALONE, World
from dlkit.errors import UsageError


def pick_device(name: str, world: World = ALONE) -> torch.device:
    """The device of that name; `auto` is CUDA, else Apple's MPS, else the CPU. Raises UsageError if it is not there.

    Of several processes on a machine, each gets a GPU of its own, or all the CPU.
    """
    if not world.is_alone:
        return _pick_own_device(name, world)
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device {name!r}; known kinds: auto, cpu, cuda, cuda:1, mps") from None
    if device.type not in {"cpu", "cuda", "mps"}:
        raise UsageError(f"device {name!r} is not supported; use auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"no device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices; use runtime.device=cpu or see `dlkit doctor`"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("no device 'mps' here; use runtime.device=cpu")
    return device


def _pick_own_device(name: str, world: World) -> torch.device:
    if name == "cpu" or (name in {"auto", "mps"} and not torch.cuda.is_available()):
        if name == "mps":
            raise UsageError("several processes train on cuda or cpu, not on mps")
        return torch.device("cpu")
    if name not in {"auto", "cuda"}:
        raise UsageError(
            f"runtime.device is {name!r}: with several processes each takes a GPU of its own; use cuda or cpu"
        )
    if world.local_size > (count := torch.cuda.device_count()):
        raise UsageError(
            f"{world.local_size} processes on this machine, but {count} CUDA devices; start as many as there are, or use "
            "runtime.device=cpu"
        )
    torch.cuda.set_device(world.local_rank)  # nccl uses the current device
    return torch.device("cuda", world.local_rank)


def machine_memory() -> int | None:
    """The bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def pick_threads(threads: int | str, world: World) -> int | None:
    """How many CPU threads torch is to use, None for its own choice: processes on a machine share its cores."""
    if isinstance(threads, int):
        return threads
    return None if world.is_alone else max(1, num_cores() // world.local_size)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_cpu_facts() -> dict[str, str]:
    """What Linux tells of the CPU, by the names of /proc/cpuinfo; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def cpu_flags() -> set[str]:
    """The CPU's feature flags, as far as they are told: `avx512_vnni`, on ARM `bf16`."""
    facts = read_cpu_facts()
    return set((facts.get("flags") or facts.get("Features") or "").split())


def describe_device(device: torch.device) -> str:
    """The device in words: its name and, for a CPU, the threads that torch uses."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        count = torch.get_num_threads()
        return f"cpu ({count} thread{'s' if count > 1 else ''}, {torch.backends.cpu.get_cpu_capability()})"
    return f"{device} ({platform.machine()})"


@contextmanager
def torch_settings(*, threads: int | None = None, deterministic: bool = False) -> Iterator[None]:
    """Set the number of CPU threads and deterministic kernels, and put back what was."""
    old_threads = torch.get_num_threads()
    old_deterministic = torch.are_deterministic_algorithms_enabled()
    old_benchmark = torch.backends.cudnn.benchmark
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        # cuBLAS reads this when its first handle is made
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not deterministic
    try:
        yield
    finally:
        torch.set_num_threads(old_threads)
        if (
            torch.are_deterministic_algorithms_enabled() != old_deterministic
        ):  # the call loads torch's compiler, for two seconds
            torch.use_deterministic_algorithms(old_deterministic)
        torch.backends.cudnn.benchmark = old_benchmark
