"""What eight bits do on this CPU, found by computing the largest numbers there are.

Without VNNI (and for some kernels with it) products are added in pairs in 16 bits: 2 * 255 * 127 does not fit and is cut off without
a word, 2 * 255 * 64 fits. Which kernels do so depends on the CPU, on the shape of the layer and on the version of torch.
"""

from functools import cache

import torch
from torch import Tensor

from dlkit.quantize.int8.arithmetic import Affine
from dlkit.quantize.int8.kernels.protocol import Kernels
from dlkit.quantize.int8.kernels.reference import ReferenceKernels
from dlkit.quantize.int8.layer import Epilogue, Int8Layer
from dlkit.quantize.int8.products import CONVOLUTIONS, ConvGeometry, Int8Conv, Int8Linear, Int8Product

# dimensions, channels, kernel and groups of convolutions: dense, pointwise, few channels, grouped, depthwise
_SHAPES = ((2, 16, 3, 1), (2, 16, 1, 1), (2, 3, 3, 1), (2, 16, 3, 4), (2, 16, 3, 16), (3, 16, 3, 1), (3, 16, 3, 16))
_PLACES = 8


def saturates(kernels: Kernels, layer: Int8Layer) -> bool:
    """Whether large sums of a layer with these weights may be cut off. Codes of 7 bits are safe everywhere."""
    if not isinstance(layer, Int8Product) or layer.weight.device.type != "cpu":
        return False
    low, high = torch.aminmax(layer.weight)
    is_small = low >= -64 and high <= 63
    return not is_small and _kind(layer) in lost_kinds(kernels)


def _kind(layer: Int8Product) -> str:
    """One dimension is computed as two."""
    if not isinstance(layer, Int8Conv):
        return "linear layers"
    return _name(max(layer.num_dimensions, 2), layer.weight.shape[1] * layer.groups, layer.groups)


def _name(num: int, channels: int, groups: int) -> str:
    kind = "dense" if groups == 1 else "depthwise" if groups == channels else "grouped"
    return f"{kind} {num}d convolutions"


@cache
def lost_kinds(kernels: Kernels, *, bits: int = 8) -> tuple[str, ...]:
    """The kinds of layers, in words, for which the largest codes do not give the exact sums."""
    found = []
    for num, channels, kernel, groups in _SHAPES:
        x = torch.full((1, channels, *[_PLACES] * num), 255, dtype=torch.uint8)
        layer = _convolution(num, channels, kernel, groups, value=2 ** (bits - 1) - 1)
        if _is_off(kernels, layer, x):
            found.append(_name(num, channels, groups))
    x = torch.full((2, 64), 255, dtype=torch.uint8)
    weight = torch.full((16, 64), 2 ** (bits - 1) - 1, dtype=torch.int8)
    if _is_off(kernels, Int8Linear(weight, torch.ones(1), None, x=Affine(1.0, 0), epilogue=_epilogue(weight)), x):
        found.append("linear layers")
    return tuple(dict.fromkeys(found))


def _convolution(num: int, channels: int, kernel: int, groups: int, *, value: int) -> Int8Product:
    weight = torch.full((channels, channels // groups, *[kernel] * num), value, dtype=torch.int8)
    same = (kernel // 2,) * num  # FBGEMM has kernels of its own for depthwise convolutions that keep the size
    geometry = ConvGeometry((1,) * num, same, (1,) * num, groups)
    build = CONVOLUTIONS[num]
    return build(weight, torch.ones(1), None, x=Affine(1.0, 0), epilogue=_epilogue(weight), geometry=geometry)


def _epilogue(weight: Tensor) -> Epilogue:
    """Codes that have the largest sum at three quarters."""
    return Epilogue(Affine(float(weight[0].numel()) * 255 * 127 / 190, 0))


def _is_off(kernels: Kernels, layer: Int8Product, x: Tensor) -> bool:
    if not kernels.supports(layer):
        return False
    layer.bind(ReferenceKernels())
    exact = layer(x)
    layer.bind(kernels)
    return bool((layer(x).int() - exact.int()).abs().max() > 1)
