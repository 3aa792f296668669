"""FBGEMM's kernels, which take quantized tensors: plain ones are dressed as such here, without copying, and undressed again.

torch has deprecated quantized tensors and means to remove them with these kernels (pytorch/pytorch#184982); only this file and
its neighbour name them. At most one step from the reference: sums are scaled in float32. Fused are relu and relu6; there is no float32
output and no residual. Inputs and outputs of uint8; int8 codes are shifted by 128.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dlkit.quantize.int8.arithmetic import Affine, from_unsigned, to_unsigned, unsigned_zero_point
from dlkit.quantize.int8.layer import Int8Layer
from dlkit.quantize.int8.products import (
    Int8Conv,
    Int8Conv1d,
    Int8Conv2d,
    Int8Conv3d,
    Int8DynamicLinear,
    Int8Linear,
    Int8Product,
)

_TYPES = (Int8Conv1d, Int8Conv2d, Int8Conv3d, Int8Linear, Int8DynamicLinear)


class QuantizedTensorKernels:
    """The kernels of one engine of torch's quantized tensors."""

    def __init__(self, name: str, missing: str) -> None:
        self.name, self.missing = name, missing

    def is_available(self) -> bool:
        """Whether this torch still has the engine and quantized tensors."""
        return _is_working(self.name)

    def supports(self, layer: Int8Layer) -> bool:
        """Whether it is a convolution or linear layer on the CPU with codes out, no residual, and at most a clamp."""
        if type(layer) not in _TYPES or not isinstance(layer, Int8Product) or layer.weight.device.type != "cpu":
            return False
        has_codes = layer.y is not None or isinstance(layer, Int8DynamicLinear)
        return has_codes and layer.residual is None and layer.activation in ("none", "relu", "relu6")

    def pack(self, layer: Int8Layer) -> dict[str, Any]:
        """The weight as the engine wants it: an object of torch's, no tensor."""
        assert isinstance(layer, Int8Product)
        with _engine(self.name):
            weight = _dress_weight(layer)
            if isinstance(layer, Int8Linear):
                return {"weight": torch.ops.quantized.linear_prepack(weight, layer.bias)}
            assert isinstance(layer, Int8Conv)
            places = [list(places) for places in (layer.stride, layer.padding, layer.dilation)]
            prepack = getattr(torch.ops.quantized, f"conv{layer.num_dimensions}d_prepack")
            return {"weight": prepack(weight, layer.bias, *places, layer.groups)}

    def run(self, layer: Int8Layer, *inputs: Tensor) -> Tensor:
        """The output."""
        assert isinstance(layer, Int8Product)
        (x,), weight = inputs, layer.packed()["weight"]
        if isinstance(layer, Int8DynamicLinear):
            return _multiply_dynamic(layer, x, weight)
        assert layer.x is not None and layer.y is not None
        name = "linear" if not isinstance(layer, Int8Conv) else f"conv{layer.num_dimensions}d"
        name += "_relu" if layer.activation == "relu" else ""
        dressed = _dress(to_unsigned(x, layer.x), layer.x.scale, unsigned_zero_point(layer.x))
        operation = getattr(torch.ops.quantized, name)
        y = from_unsigned(_undress(operation(dressed, weight, layer.y.scale, unsigned_zero_point(layer.y))), layer.y)
        return y.clamp_(layer.y.zero_point, layer.y.code_of(6)) if layer.activation == "relu6" else y


def _multiply_dynamic(layer: Int8DynamicLinear, x: Tensor, weight: Any) -> Tensor:
    if not x.numel():
        return x.new_zeros(*x.shape[:-1], len(layer.weight))
    y: Tensor = torch.ops.quantized.linear_dynamic(x if x.dim() > 1 else x[None], weight, False)
    return y if x.dim() > 1 else y[0]


def _dress_weight(layer: Int8Product) -> Tensor:
    scale = layer.weight_scale.double()
    if len(scale) == 1:
        return torch._make_per_tensor_quantized_tensor(layer.weight, float(scale), 0)
    zeros = torch.zeros(len(scale), dtype=torch.int64)
    return torch._make_per_channel_quantized_tensor(layer.weight, scale, zeros, 0)


def _dress(codes: Tensor, scale: float, zero_point: int) -> Tensor:
    """A quantized tensor in the memory of plain codes."""
    if torch._C._is_tracing():  # a trace cannot follow memory
        return torch._make_per_tensor_quantized_tensor(codes, scale, zero_point)
    dressed = torch._empty_affine_quantized([0], scale=scale, zero_point=zero_point, dtype=torch.quint8)
    return dressed.set_(codes.untyped_storage(), codes.storage_offset(), codes.shape, codes.stride())


def _undress(dressed: Tensor) -> Tensor:
    """Plain codes in the memory of a quantized tensor; torch's own way is to copy them one by one."""
    if torch._C._is_tracing():
        return dressed.int_repr()
    codes = torch.empty(0, dtype=torch.uint8)
    return codes.set_(dressed.untyped_storage(), dressed.storage_offset(), dressed.shape, dressed.stride())


@contextmanager
def _engine(name: str) -> Iterator[None]:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


@cache
def _is_working(name: str) -> bool:
    """Whether a product of one code and one weight comes out right. torch's remark that this will end is spent here: it comes once
    in a process, and the reader of a program cannot do anything about it.
    """
    if name not in torch.backends.quantized.supported_engines:
        return False
    one = Affine(1.0, 0)
    weight = torch.ones(1, 1, dtype=torch.int8)
    try:
        with warnings.catch_warnings(), _engine(name):
            warnings.simplefilter("ignore")
            packed = torch.ops.quantized.linear_prepack(torch._make_per_tensor_quantized_tensor(weight, 1.0, 0), None)
            x = _dress(weight.to(torch.uint8), one.scale, one.zero_point)
            return bool(_undress(torch.ops.quantized.linear(x, packed, 1.0, 0)) == 1)
    except (AttributeError, RuntimeError):
        return False


FBGEMM = QuantizedTensorKernels(
    "fbgemm",
    "this torch has no kernels of FBGEMM on quantized tensors: they run on x86 only, and torch is removing them",
)
