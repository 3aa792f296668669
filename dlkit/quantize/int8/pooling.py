"""Pooling of codes, resizing, and padding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlkit.quantize.int8.arithmetic import Affine
from dlkit.quantize.int8.layer import Int8Layer


@dataclass(frozen=True)
class PoolGeometry:
    """Where a pool looks: one number for each dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool = False


class Int8MaxPool(Int8Layer):
    """The largest code of each window; input and output share their scale."""

    def __init__(self, x: Affine, geometry: PoolGeometry, *, dilation: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.x, self.geometry = x, geometry
        self.dilation = dilation or (1,) * len(geometry.kernel)


class Int8AvgPool(Int8Layer):
    """The mean of each window."""

    def __init__(self, x: Affine, y: Affine, geometry: PoolGeometry, *, count_include_pad: bool = True) -> None:
        super().__init__()
        self.x, self.y, self.geometry = x, y, geometry
        self.count_include_pad = count_include_pad


class Int8AdaptiveAvgPool(Int8Layer):
    """The mean of windows that cut each dimension into `size` parts."""

    def __init__(self, x: Affine, y: Affine, size: tuple[int, ...]) -> None:
        super().__init__()
        self.x, self.y, self.size = x, y, size


class Int8Resize(Int8Layer):
    """Images brought to another size by `F.interpolate` with these options; a size that is known only then comes behind the codes."""

    def __init__(self, x: Affine, y: Affine, size: Any = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.x, self.y, self.size, self.options = x, y, size, dict(options or {})


class Int8Pad(Int8Layer):
    """Zeros around each image, by the code that stands for 0; `sides` from the last dimension to the first, as torch counts them."""

    def __init__(self, x: Affine, sides: tuple[int, ...]) -> None:
        super().__init__()
        self.x, self.sides = x, sides
