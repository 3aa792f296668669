"""Which kernels run int8 on this machine, and what its CPU does with eight bits."""

import torch
from torch import nn

from dlkit.choices import Backend, Reduce
from dlkit.errors import UsageError
from dlkit.quantize.int8 import (
    KERNEL_NAMES,
    available_kernels,
    find_kernels,
    is_arm,
    lost_sums_note,
    saturation_note,
    weight_bits,
)
from dlkit.quantize.recipe import Recipe

SLOW_KERNELS = {
    "plain": "layers without weights, on any device",
    "reference": "every layer, exactly and slowly, on any device",
}


def pick_backend(name: str) -> Backend:
    """The backend of that name; `auto` is x86 on Intel and AMD, and qnnpack on ARM. Raises UsageError if it is not there."""
    if name == "auto":
        name = "qnnpack" if is_arm() else "x86"
    if name != "x86":
        find_kernels(name)
    return name  # type: ignore[return-value]


def has_vnni() -> bool:
    """Whether the CPU multiplies bytes into 32-bit sums, so that two products cannot overflow 16 bits."""
    return bool(torch.cpu._is_vnni_supported())


def pick_reduce(backend: Backend) -> Reduce:
    """What gives up a bit: the weights, where kernels of this CPU would lose large sums of eight bits."""
    return "weights" if weight_bits(backend) == 7 else "none"


def cpu_notes(recipe: Recipe, quantized: nn.Module) -> list[str]:
    """What a user should know about running an int8 network of this recipe here, a sentence each; often nothing."""
    note = lost_sums_note(quantized)
    notes = [note] if note else []
    if recipe.backend == "qnnpack" and not is_arm():
        notes.append("The file is for ARM: here it runs, but slowly (ResNet18 took eight times as long as with x86).")
    if recipe.backend != "qnnpack" and not has_vnni():
        notes.append("This CPU has no VNNI, so int8 gains less speed here than on newer ones.")
    return notes


def has_fast_kernels() -> bool:
    """Whether any kernels here compute layers with weights faster than the reference."""
    return any(kernels.name not in SLOW_KERNELS for kernels in available_kernels())


def describe_kernels() -> dict[str, str]:
    """What runs int8 layers here, by name: how many bits weights take and what saturates, or why it does not run."""
    return {name: _kernels_text(name) for name in KERNEL_NAMES}


def _kernels_text(name: str) -> str:
    try:
        find_kernels(name)
    except UsageError as error:
        return str(error)
    if name in SLOW_KERNELS:
        return SLOW_KERNELS[name]
    note = saturation_note(name)
    return f"weights of {weight_bits(name)} bits{f'. {note}' if note else ''}"
