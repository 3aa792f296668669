"""Switching the rounding of a network that trains for int8: ranges that follow or stay, and batch norms that are frozen."""

from torch import nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm

from dlkit.quantize.observe import ActivationRounding, RangeObserver


def switch_observers(prepared: nn.Module, *, is_on: bool) -> None:
    """Let ranges follow what passes through, or stay."""
    for module in prepared.modules():
        if isinstance(module, ActivationRounding):
            module.is_observing = is_on


def freeze_norms(prepared: nn.Module) -> None:
    """Keep the running statistics of every batch norm, those beside weights and those that stand alone."""
    for module in prepared.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def take_ranges(prepared: GraphModule, calibrated: GraphModule) -> int:
    """Begin with the ranges of activations that a calibrated graph of the same network found; how many were taken over."""
    found = {name: module for name, module in calibrated.named_modules() if isinstance(module, RangeObserver)}
    rounding = [(name, module) for name, module in prepared.named_modules() if isinstance(module, ActivationRounding)]
    taken = [(module, found[name]) for name, module in rounding if name in found]
    for module, observer in taken:
        module.take_range(observer.affine())
    return len(taken)
