"""Mixed precision: which type to compute in, and the loss scaling that float16 needs."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from dlkit.core.devices import cpu_flags
from dlkit.errors import UsageError

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """How a forward pass computes. `note` says why it is not what was asked for, or is None."""

    name: str
    device: torch.device
    scaler: torch.amp.GradScaler
    note: str | None = None

    def autocast(self) -> AbstractContextManager[object]:
        """Returns a context for forward passes and losses; does nothing in float32."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_TYPES[self.name])


def pick_precision(amp: str, device: torch.device) -> Precision:
    """Returns the precision for a config's `amp` on a device.

    `auto` is bf16 on CUDA where the GPU has it, else fp16, and float32 on CPUs. On a CPU without native bf16 (AVX512-BF16 or
    AMX) bf16 is emulated and several times slower than float32, so it is turned off with a note. fp16 needs CUDA or MPS.
    """
    name, note = _pick(amp, device)
    scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
    return Precision(name, device, scaler, note)


def _pick(amp: str, device: torch.device) -> tuple[str, str | None]:
    if amp == "off":
        return "fp32", None
    if device.type == "cpu":
        if amp == "fp16":
            raise UsageError("train.amp: fp16 needs a GPU; use bf16 or off on a CPU")
        if amp == "bf16" and not has_native_bf16():
            return (
                "fp32",
                "mixed precision is off: this CPU has no native bf16 (AVX512-BF16 or AMX), emulating it would be slower than float32",
            )
        return ("bf16" if amp == "bf16" else "fp32"), None
    if amp == "auto":
        if device.type == "mps":
            return "fp32", None
        return ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"), None
    return amp, None


def has_native_bf16() -> bool:
    """Returns whether this CPU multiplies bf16 in hardware (AVX512-BF16, AMX or ARM's BF16), as the kernel reports it."""
    return any("bf16" in flag for flag in cpu_flags())
