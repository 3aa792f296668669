"""Images of one place, as in squeeze-and-excitation: 1x1 convolutions by float32 products of codes, and what stands between them.

A call of an int8 kernel takes longer there than the arithmetic. Weights lie in float32 only while they are bound; sums of codes are exact
up to 2**24, and beyond that at most one step from the reference. From one such layer to the next, codes travel as whole numbers in
float32: making bytes of them and numbers of the bytes takes as long as the rest.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.activations import activate
from dlkit.quantize.int8.arithmetic import Affine
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.pointwise import Int8Lookup, Int8Mul
from dlkit.quantize.int8.pooling import Int8AdaptiveAvgPool
from dlkit.quantize.int8.products import Int8Conv

LARGEST = 2**18  # weights; a matrix that does not fit into the cache takes its time in float32


def is_for_pixels(layer: Int8Layer) -> bool:
    """Whether a layer is a small 1x1 convolution whose inputs are expected to have one place, with codes out."""
    if not isinstance(layer, Int8Conv) or layer.expected_shape is None or layer.weight.device.type != "cpu":
        return False
    is_pointwise = (
        layer.weight[0, 0].numel() == 1 and layer.groups == 1 and set(layer.stride) == {1} and not any(layer.padding)
    )
    has_one_place = all(size == 1 for size in layer.expected_shape[2:])
    return (
        is_pointwise
        and has_one_place
        and layer.y is not None
        and layer.residual is None
        and layer.weight.numel() <= LARGEST
    )


def reads_float_codes(layer: Int8Layer | None) -> bool:
    """Whether a layer takes codes as whole numbers in float32."""
    return isinstance(layer, Int8Mul | Int8Lookup) or (layer is not None and is_for_pixels(layer))


def makes_one_place(layer: Int8Layer | None, *, of_one: bool) -> bool:
    """Whether the output of a layer has one place, where its input has (`of_one`) or always."""
    is_whole = isinstance(layer, Int8AdaptiveAvgPool) and set(layer.size) == {1}
    return is_whole or (of_one and isinstance(layer, Int8Lookup)) or (layer is not None and is_for_pixels(layer))


def pack_pixels(layer: Int8Conv) -> dict[str, Any]:
    """The weight (O, I) times the scale of the input, and the bias without what the input's zero point adds.

    Where nothing but a ReLU is to come, both in steps of the output, and the bounds of its codes.
    """
    assert layer.x is not None and layer.y is not None
    weight = layer.real_weight().flatten(1).mul_(layer.x.scale)
    shift = weight.double().sum(1).mul_(layer.x.zero_point).float()
    bias = -shift if layer.bias is None else layer.bias - shift
    if not layer.codes_in_float or layer.activation not in ("none", "relu", "relu6"):
        return {"weight": weight, "bias": bias, "bounds": None}
    lowest = layer.y.lowest if layer.activation == "none" else layer.y.zero_point
    highest = layer.y.code_of(6.0) if layer.activation == "relu6" else layer.y.highest
    scale, zero_point = layer.y.scale, layer.y.zero_point
    return {"weight": weight / scale, "bias": bias / scale + zero_point, "bounds": (lowest, highest)}


def convolve_pixels(layer: Int8Conv, x: Tensor) -> Tensor:
    """Codes of the output, in float32, channels last."""
    packed = layer.packed()
    y = F.linear(x.movedim(1, -1).float(), packed["weight"], packed["bias"])
    if packed["bounds"] is not None:
        return y.round_().clamp_(*packed["bounds"])
    assert layer.y is not None
    return float_codes(activate(y, layer.activation), 1 / layer.y.scale, layer.y)


def float_codes(real: Tensor, factor: float, y: Affine) -> Tensor:
    """Codes as whole numbers in float32 of numbers of which `1 / factor` make a step."""
    return real.mul_(factor).round_().add_(y.zero_point).clamp_(y.lowest, y.highest)
