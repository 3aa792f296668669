"""What every layer can tell: its output shape, its cost, the inputs it reads, and the line of torch that builds it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

from dlkit.shapes.size import Shape, ShapeError, Size, size_text
from dlkit.shapes.taps import SAME_POSITION, Taps, window_taps
from dlkit.shapes.window import Window


@dataclass(frozen=True)
class Layer(ABC):
    """One layer. Shapes are those of one sample, channels first. Options that depend on the input are None until `fit`."""

    def fit(self, shape: Shape) -> Self:
        """Returns the layer with the options that follow from its input. Raises ShapeError if options and input disagree."""
        return self

    @abstractmethod
    def out_shape(self, shape: Shape) -> Shape:
        """Shape of the output for this input. Raises ShapeError where torch raises."""

    def num_parameters(self) -> int:
        """Learnable numbers of a fitted layer."""
        return 0

    def num_macs(self, shape: Shape) -> int:
        """Multiply-accumulates for one sample of this shape, biases not counted. FLOPs are twice as many."""
        return 0

    def taps_per_axis(self, shape: Shape) -> tuple[Taps, ...] | None:
        """What each output position reads, per spatial axis; None where outputs read everything."""
        return (SAME_POSITION,) * (len(shape) - 1)

    @abstractmethod
    def torch_code(self) -> str:
        """The line that builds the layer in torch."""


@dataclass(frozen=True)
class Border:
    """Input positions of an axis that no window reads, and the hint that says how to read them."""

    unread_right: int
    unread_between: int
    leftover: int
    hint: str | None


class Spatial(Layer):
    """A layer that changes the spatial axes one by one."""

    @property
    @abstractmethod
    def dims(self) -> int:
        """Number of spatial axes."""

    @abstractmethod
    def out_size(self, axis: int, size: int) -> int:
        """Size of one axis after the layer. Raises ShapeError where torch raises."""

    @abstractmethod
    def formula(self, axis: int, size: int) -> str:
        """The formula of one axis with its numbers filled in."""

    @abstractmethod
    def simplified(self, axis: int) -> str:
        """The formula of one axis in the unknown `in`, as short as it gets."""

    @abstractmethod
    def taps(self, axis: int, size: int) -> Taps:
        """What each output position reads along one axis."""

    def out_channels_for(self, channels: int) -> int:
        """Channels after the layer."""
        return channels

    def border(self, axis: int, size: int) -> Border | None:
        """Input positions that no window reads; None for layers that read every position."""
        return None

    def notes(self, axis: int, size: int) -> list[str]:
        """Remarks about this size for people."""
        return []

    def out_sizes(self, sizes: Size) -> Size:
        """Spatial sizes after the layer."""
        return tuple(self.out_size(axis, size) for axis, size in enumerate(sizes))

    def out_shape(self, shape: Shape) -> Shape:
        """Shape of the output for this input. Raises ShapeError where torch raises."""
        check_dims(shape, self.dims, what=type(self).__name__)
        return (self.out_channels_for(shape[0]), *self.out_sizes(shape[1:]))

    def taps_per_axis(self, shape: Shape) -> tuple[Taps, ...] | None:
        """What each output position reads of the input, per spatial axis."""
        return tuple(self.taps(axis, size) for axis, size in enumerate(shape[1:]))


class Windowed(Spatial):
    """A layer that moves one window along each axis."""

    kernel_size: Size
    stride: Size
    padding: Any  # a size, or a word for one
    dilation: Size

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    def window(self, axis: int) -> Window:
        """The window along one axis."""
        padding = self.padding[axis]
        return Window(self.kernel_size[axis], self.stride[axis], padding, padding, self.dilation[axis])

    def simplified(self, axis: int) -> str:
        """The formula of one axis in the unknown `in`."""
        window = self.window(axis)
        return floor_text(linear_text(1, window.padding - window.span + window.stride), window.stride)

    def taps(self, axis: int, size: int) -> Taps:
        """What each output position reads along one axis."""
        window = self.window(axis)
        return window_taps(kernel=window.kernel, stride=window.stride, pad=window.pad_left, dilation=window.dilation)


def check_dims(shape: Shape, dims: int, *, what: str) -> None:
    """Raise ShapeError unless the shape is channels and `dims` spatial axes."""
    if len(shape) != dims + 1:
        axes = ("length", "height x width", "depth x height x width")[dims - 1]
        raise ShapeError(f"{what} needs channels x {axes}, got {size_text(shape)} ({len(shape)} axes)")


def linear_text(scale: int, offset: int) -> str:
    """`scale*in + offset`, without a scale of 1 or an offset of 0.

    >>> linear_text(2, -1), linear_text(1, 0)
    ('2*in - 1', 'in')
    """
    head = "in" if scale == 1 else f"{scale}*in"
    return head if not offset else f"{head} {'+' if offset > 0 else '-'} {abs(offset)}"


def floor_text(numerator: str, divisor: int) -> str:
    """`floor(numerator / divisor)`, or the numerator alone where the divisor is 1."""
    return (
        numerator
        if divisor == 1
        else f"floor(({numerator}) / {divisor})"
        if " " in numerator
        else f"floor({numerator} / {divisor})"
    )


def options_text(**options: tuple[str, str]) -> str:
    """`, name=value` for each option whose text (first) is not the default (second)."""
    return "".join(f", {name}={text}" for name, (text, default) in options.items() if text != default)
