"""What a measurement ran on: without it a latency says nothing."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from dlkit.core.devices import describe_device

# int8 dot products in hardware, by the names that the kernel uses; without one 8-bit sums may saturate and gain little
_INT8_FLAGS = {
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX-INT8",
    "asimddp": "ARM dot product",
}


@dataclass(frozen=True)
class Machine:
    """CPU, what of int8 it does in hardware, device, threads and versions. `onnxruntime` is None without the extra."""

    cpu: str
    int8_instructions: tuple[str, ...]
    cores: int
    threads: int
    device: str
    torch: str
    onnxruntime: str | None


def describe_machine(device: torch.device) -> Machine:
    """This machine, with as many threads as torch uses now."""
    name, flags = _read_cpu()
    return Machine(
        cpu=name,
        int8_instructions=tuple(words for flag, words in _INT8_FLAGS.items() if flag in flags),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=describe_device(device),
        torch=torch.__version__,
        onnxruntime=_version("onnxruntime"),
    )


def _read_cpu() -> tuple[str, set[str]]:
    """The CPU's name and its feature flags, as Linux tells them; elsewhere what Python knows of the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, set((facts.get("flags") or facts.get("Features") or "").split())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
