"""Switching fake quantization while a network trains: observers, rounding, batch norms, and the ranges it begins with.

Fake quantization is found by its base class, never by names or exact types: the types differ between backends, and a toggle
that matches nothing would be lost without a word.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.ao.nn.intrinsic.qat.modules.conv_fused import _ConvBnNd
from torch.ao.nn.intrinsic.qat.modules.linear_fused import LinearBn1d
from torch.ao.quantization import (
    FakeQuantize,
    FakeQuantizeBase,
    FixedQParamsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
)
from torch.fx import GraphModule, Node
from torch.nn.modules.batchnorm import _BatchNorm

_LEAST_GAMMA = 1e-5
_FUSED_NORMS = (_ConvBnNd, LinearBn1d)


class _WholeRange:
    """Symmetric scales that use the range to its end on both sides, from the weights as they are now.

    torch's own divide by half of the span, so that the largest weight becomes 64 where 63 is the most: clamped while
    training, not clamped in int8. torch's fused kernel takes ranges of one sign for asymmetric ones, which int8 weights are
    not, and depthwise convolutions have many channels whose weights have one sign.
    """

    min_val: Tensor
    max_val: Tensor
    quant_min: int
    quant_max: int
    eps: Tensor

    def calculate_qparams(self, **options: Any) -> Any:
        """Scale and zero point, 0; of an observer that saw nothing 1 and 0."""
        if self.min_val.numel() == 0 or not bool(torch.isfinite(self.min_val).all()):
            return torch.ones(1), torch.zeros(1, dtype=torch.int64)
        scale = torch.maximum(self.min_val / self.quant_min, self.max_val / self.quant_max).clamp(min=self.eps)
        return scale, torch.zeros_like(scale, dtype=torch.int64)


class WholeRangeObserver(_WholeRange, MovingAverageMinMaxObserver):
    """One scale for all weights."""


class WholeRangePerChannelObserver(_WholeRange, MovingAveragePerChannelMinMaxObserver):
    """A scale for each output channel."""


def weight_fake_quant(*, is_per_channel: bool, low: int, high: int) -> Any:
    """What rounds weights while training, as a factory."""
    return FakeQuantize.with_args(  # type: ignore[no-untyped-call]
        observer=WholeRangePerChannelObserver if is_per_channel else WholeRangeObserver,
        averaging_constant=1,
        quant_min=low,
        quant_max=high,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric if is_per_channel else torch.per_tensor_symmetric,
    )


def fake_quants(prepared: nn.Module) -> list[FakeQuantize]:
    """All fake quantization of a prepared network, of weights and of activations, but for ranges that never change."""
    return [module for module in prepared.modules() if _has_moving_range(module)]


def _has_moving_range(module: nn.Module) -> TypeGuard[FakeQuantize]:
    return isinstance(module, FakeQuantize) and not isinstance(module, FixedQParamsFakeQuantize)


def switch_observers(prepared: nn.Module, *, is_on: bool) -> None:
    """Let ranges follow what passes through, or stay. torch's own default is on, in evaluation mode too."""
    for module in fake_quants(prepared):
        module.enable_observer(is_on)


def switch_rounding(prepared: nn.Module, *, is_on: bool) -> None:
    """Round and clamp as int8 will, or let everything through as it is."""
    for module in prepared.modules():
        if isinstance(module, FakeQuantizeBase):
            module.enable_fake_quant(is_on)


def freeze_norms(prepared: nn.Module) -> None:
    """Keep the running statistics of every batch norm, those fused into a convolution and those that stand alone."""
    for module in prepared.modules():
        if isinstance(module, _FUSED_NORMS):
            module.freeze_bn_stats()  # type: ignore[no-untyped-call]
        elif isinstance(module, _BatchNorm):
            module.eval()


def steady_norms(prepared: nn.Module) -> int:
    """Take the exact way where the usual one divides by a scale of 0; how many fused batch norms that is.

    torch multiplies the weights by gamma / sigma, rounds them and divides the outputs by the same again. A channel that is
    zero, as pruning leaves it, becomes 0 / 0; the exact way runs the convolution twice.
    """
    found = [
        module
        for module in prepared.modules()
        if isinstance(module, _ConvBnNd) and bool((module.bn.weight.abs() < _LEAST_GAMMA).any())
    ]
    for module in found:
        module._enable_slow_path_for_better_numerical_stability = True
    return len(found)


def take_ranges(prepared: GraphModule, calibrated: GraphModule) -> int:
    """Begin with the ranges of activations that a calibrated static network found; how many were taken over.

    Both must come from the same float network, so that the same tensors are watched, which are known by the operation that
    makes them.
    """
    found = {_watched(node): module for node, module in _watchers(calibrated)}
    num_taken = 0
    for node, module in _watchers(prepared):
        observer = found.get(_watched(node))
        if _has_moving_range(module) and observer is not None:
            _set_range(module, *observer.calculate_qparams())  # type: ignore[operator]
            num_taken += 1
    return num_taken


def _watchers(prepared: GraphModule) -> list[tuple[Node, nn.Module]]:
    nodes = [node for node in prepared.graph.nodes if node.op == "call_module" and len(node.args) == 1]
    modules = [(node, prepared.get_submodule(str(node.target))) for node in nodes]
    return [(node, module) for node, module in modules if hasattr(module, "calculate_qparams")]


def _watched(node: Node) -> str:
    source = node.args[0]
    assert isinstance(source, Node)
    return source.name


def _set_range(module: FakeQuantize, scale: Tensor, zero_point: Tensor) -> None:
    """Put scale and zero point in, and limits from which torch computes the same again, in each pass and at conversion."""
    observer = module.activation_post_process
    for name, limit in (("min_val", observer.quant_min), ("max_val", observer.quant_max)):
        getattr(observer, name).resize_(()).copy_(((limit - zero_point) * scale).reshape(()))
    module.scale.resize_(scale.shape).copy_(scale)
    module.zero_point.resize_(zero_point.shape).copy_(zero_point)
