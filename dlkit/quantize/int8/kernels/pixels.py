"""1x1 convolutions of images of one place, as in squeeze-and-excitation, by float32 products of codes.

A call of an int8 kernel takes longer there than the arithmetic. Weights lie in float32 only while they are bound; sums of codes are exact
up to 2**24, and beyond that at most one step from the reference.
"""

import torch.nn.functional as F
from torch import Tensor

from dlkit.quantize.int8.activations import activate
from dlkit.quantize.int8.layer import Int8Layer
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


def pack_pixels(layer: Int8Conv) -> dict[str, Tensor]:
    """The weight (O, I) times the scale of the input, and the bias without what the input's zero point adds."""
    assert layer.x is not None
    weight = layer.real_weight().flatten(1).mul_(layer.x.scale)
    shift = weight.double().sum(1).mul_(layer.x.zero_point).float()
    return {"weight": weight, "bias": -shift if layer.bias is None else layer.bias - shift}


def multiply_pixels(layer: Int8Conv, x: Tensor) -> Tensor:
    """Real numbers of the output, channels last."""
    packed = layer.packed()
    return activate(F.linear(x.movedim(1, -1).float(), packed["weight"], packed["bias"]), layer.activation)
