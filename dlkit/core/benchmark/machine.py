"""What a measurement ran on: without it a latency says nothing."""

import os
import platform
from dataclasses import dataclass

import torch

from dlkit.core.devices import cpu_flags, describe_device, read_cpu_facts
from dlkit.core.environment import installed_version

# int8 dot products in hardware, by the names that the kernel uses; without one 8-bit sums may saturate and gain little
_INT8_FLAGS = {
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX-INT8",
    "asimddp": "ARM dot product",
}


@dataclass(frozen=True)
class Machine:
    """CPU, what of int8 it does in hardware, device, threads and versions. `onnxruntime` and `openvino` are None without their extras."""

    cpu: str
    int8_instructions: tuple[str, ...]
    cores: int
    threads: int
    device: str
    torch: str
    onnxruntime: str | None
    openvino: str | None


def describe_machine(device: torch.device) -> Machine:
    """This machine, with as many threads as torch uses now."""
    flags = cpu_flags()
    return Machine(
        cpu=read_cpu_facts().get("model name") or platform.processor() or platform.machine(),
        int8_instructions=tuple(words for flag, words in _INT8_FLAGS.items() if flag in flags),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=describe_device(device),
        torch=torch.__version__,
        onnxruntime=installed_version("onnxruntime"),
        openvino=installed_version("openvino"),
    )
