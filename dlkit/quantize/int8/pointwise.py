"""Layers that work on each number by itself, and those between float and int8."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from dlkit.quantize.int8.activations import lookup_table
from dlkit.quantize.int8.arithmetic import Affine
from dlkit.quantize.int8.layer import Int8Layer


class Quantize(Int8Layer):
    """float32 to codes."""

    def __init__(self, y: Affine) -> None:
        super().__init__()
        self.y = y


class Dequantize(Int8Layer):
    """Codes to float32."""

    def __init__(self, x: Affine) -> None:
        super().__init__()
        self.x = x

    @property
    def output(self) -> None:
        """float32."""
        return None


class Int8Add(Int8Layer):
    """The sum of two tensors that broadcast, and a ReLU where `activation` says so."""

    def __init__(self, x: Affine, other: Affine, y: Affine, *, activation: Literal["none", "relu"] = "none") -> None:
        super().__init__()
        self.x, self.other, self.y, self.activation = x, other, y, activation


class Int8Mul(Int8Layer):
    """The product of two tensors that broadcast."""

    def __init__(self, x: Affine, other: Affine, y: Affine) -> None:
        super().__init__()
        self.x, self.other, self.y = x, other, y


class Int8Cat(Int8Layer):
    """Any number of tensors, joined along a dimension and brought to one scale."""

    def __init__(self, inputs: tuple[Affine, ...], y: Affine, *, dim: int) -> None:
        super().__init__()
        self.inputs, self.y, self.dim = inputs, y, dim


class Int8Clamp(Int8Layer):
    """Codes between two of them: ReLU, ReLU6 and other clamps that no layer before has taken in. Input and output share their
    scale.
    """

    def __init__(self, x: Affine, *, low: float, high: float) -> None:
        super().__init__()
        self.x, self.low, self.high = x, low, high


class Int8Lookup(Int8Layer):
    """Any function of one number, by a table (256,) from codes to codes: exact."""

    table: Tensor

    def __init__(self, function: Callable[[Tensor], Tensor], x: Affine, y: Affine) -> None:
        super().__init__()
        self.x, self.y, self.function = x, y, function
        self.register_buffer("table", lookup_table(function, x, y))
