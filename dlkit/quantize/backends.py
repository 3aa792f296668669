"""Which engine runs int8 on this machine, and what its CPU does with eight bits."""

import platform

import torch
from torch import nn

from dlkit.choices import Backend, Reduce
from dlkit.errors import UsageError
from dlkit.quantize.recipe import Recipe

BACKENDS: tuple[Backend, ...] = ("x86", "fbgemm", "onednn", "qnnpack")


def pick_backend(name: str) -> Backend:
    """The backend of that name; `auto` is x86 on Intel and AMD, and qnnpack on ARM. Raises UsageError if it is not there."""
    here = [backend for backend in BACKENDS if backend in torch.backends.quantized.supported_engines]
    if name == "auto":
        name = "qnnpack" if _is_arm() else "x86"
    found = next((backend for backend in here if backend == name), None)
    if found is None:
        raise UsageError(f"no int8 backend {name!r} on this machine; it has {', '.join(here) or 'none'}")
    return found


def has_vnni() -> bool:
    """Whether the CPU multiplies bytes into 32-bit sums, so that two products cannot overflow 16 bits."""
    return bool(torch.cpu._is_vnni_supported())


def pick_reduce(backend: Backend) -> Reduce:
    """What gives up a bit so that no kernel saturates.

    fbgemm's depthwise kernels add pairs of products in 16 bits on every x86 CPU, with VNNI or without, and x86 runs them too;
    onednn does so without VNNI only; qnnpack never.
    """
    if backend in {"x86", "fbgemm"} or (backend == "onednn" and not has_vnni()):
        return "weights"
    return "none"


def cpu_notes(recipe: Recipe, network: nn.Module) -> list[str]:
    """What a user should know about running this recipe's file here and elsewhere, a sentence each; often nothing."""
    notes = []
    if recipe.mode != "dynamic" and recipe.reduce == "none":
        notes += _saturation_notes(recipe.backend, has_depthwise=has_depthwise(network))
    if recipe.backend == "onednn" and has_depthwise(network):
        notes.append(
            "onednn runs depthwise convolutions slowly (MobileNetV2 took five times as long as with x86): "
            "measure it, or take --backend x86."
        )
    if recipe.backend == "qnnpack" and not _is_arm():
        notes.append("The file is for ARM: here it runs, but slowly (ResNet18 took eight times as long as with x86).")
    if recipe.backend != "qnnpack" and not has_vnni():
        notes.append("This CPU has no VNNI, so int8 gains less speed here than on newer ones.")
    return notes


def _saturation_notes(backend: Backend, *, has_depthwise: bool) -> list[str]:
    if backend == "onednn":
        where = "this CPU, which has none" if not has_vnni() else "CPUs without it"
        return [
            f"Weights of 8 bits need VNNI: on {where}, sums overflow and accuracy falls; --reduce weights avoids it."
        ]
    if backend in {"x86", "fbgemm"} and has_depthwise:
        return [
            "The depthwise kernels of this engine overflow with weights of 8 bits on any CPU; --reduce weights avoids it."
        ]
    if backend in {"x86", "fbgemm"} and (backend == "fbgemm" or not has_vnni()):
        return ["Without VNNI, weights of 8 bits let sums overflow and accuracy fall; --reduce weights avoids it."]
    return []


def has_depthwise(network: nn.Module) -> bool:
    """Whether a convolution of the network has a group for every input channel."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.modules.conv._ConvNd)]
    return any(module.groups == module.in_channels > 1 for module in convolutions)


def _is_arm() -> bool:
    return platform.machine().lower() in {"aarch64", "arm64", "armv7l", "armv8l"}
