"""Switching fake quantization while a network trains: observers, rounding, batch norms, and the ranges it begins with.

Fake quantization is found by its base class, never by names or exact types: the types differ between backends, and a toggle
that matches nothing would be lost without a word.
"""

import torch
from torch import Tensor, nn
from torch.ao.nn.intrinsic.qat.modules.conv_fused import _ConvBnNd
from torch.ao.nn.intrinsic.qat.modules.linear_fused import LinearBn1d
from torch.ao.quantization import FakeQuantize, FakeQuantizeBase, FixedQParamsFakeQuantize
from torch.fx import GraphModule, Node
from torch.nn.modules.batchnorm import _BatchNorm

_SYMMETRIC = (torch.per_tensor_symmetric, torch.per_channel_symmetric)
_FUSED_NORMS = (_ConvBnNd, LinearBn1d)


def fake_quants(prepared: nn.Module) -> list[FakeQuantize]:
    """All fake quantization of a prepared network, of weights and of activations, but for ranges that never change."""
    return [
        module
        for module in prepared.modules()
        if isinstance(module, FakeQuantize) and not isinstance(module, FixedQParamsFakeQuantize)
    ]


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
            module.freeze_bn_stats()
        elif isinstance(module, _BatchNorm):
            module.eval()


def take_ranges(prepared: GraphModule, calibrated: GraphModule) -> int:
    """Begin with the ranges of activations that a calibrated static network found; how many were taken over.

    Both must come from the same float network, so that the same tensors are watched, which are known by the operation that
    makes them.
    """
    found = {_watched(node): module for node, module in _watchers(calibrated)}
    num_taken = 0
    for node, module in _watchers(prepared):
        observer = found.get(_watched(node))
        if isinstance(module, FakeQuantize) and not isinstance(module, FixedQParamsFakeQuantize) and observer is not None:
            _set_range(module, *observer.calculate_qparams())
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


def settle_ranges(prepared: nn.Module) -> None:
    """Make the ranges that conversion computes those that the network was trained with; to be done last.

    The fused kernel that trains and the Python code that converts compute other scales from the same limits: of symmetric
    weights the one takes max(min / -64, max / 63), the other the largest magnitude / 63.5 (pytorch/ao#4824). The kernel
    computes its scale from the limits again at every call, so that training on would use other ranges from here.
    """
    for module in fake_quants(prepared):
        limit = module.activation_post_process.min_val
        if limit.numel() and bool(torch.isfinite(limit).all()):
            _set_range(module, module.scale.clone(), module.zero_point.clone())


def _set_range(module: FakeQuantize, scale: Tensor, zero_point: Tensor) -> None:
    """Put scale and zero point in, and limits from which torch computes the same again."""
    observer = module.activation_post_process
    span = observer.quant_max - observer.quant_min
    low, high = (observer.quant_min - zero_point) * scale, (observer.quant_max - zero_point) * scale
    if observer.qscheme in _SYMMETRIC:
        low, high = -scale * span / 2, scale * span / 2
    module.scale.resize_(scale.shape).copy_(scale)
    module.zero_point.resize_(zero_point.shape).copy_(zero_point)
    for limit, value in ((observer.min_val, low), (observer.max_val, high)):
        limit.resize_(value.shape if module.is_per_channel else ()).copy_(value if module.is_per_channel else value.reshape(()))
