"""Convolution and transposed convolution in one, two and three dimensions."""

from dataclasses import dataclass, replace
from math import prod
from typing import Self

from dlkit.shapes.layer import Border, Windowed, linear_text, options_text
from dlkit.shapes.size import Shape, ShapeError, Size, multiples_text, tuple_text
from dlkit.shapes.taps import Taps, count_unread, transposed_taps
from dlkit.shapes.window import (
    Window,
    check_window,
    conv_size,
    leftover,
    same_padding,
    tensorflow_same,
    transposed_size,
)

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class _Channels(Windowed):
    """What both convolutions share: channels, groups and a kernel. Channels may still be unknown."""

    kernel_size: Size
    stride: Size
    dilation: Size
    groups: int = 1
    in_channels: int | None = None
    out_channels: int | None = None
    bias: bool = True

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ShapeError(f"groups is {self.groups}; it must be at least 1")
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels is not None and channels < 1:
                raise ShapeError(f"{name} is {channels}; it must be at least 1")
            if channels is not None and channels % self.groups:
                raise ShapeError(
                    f"{name} {channels} is not divisible by groups {self.groups}. What would work: "
                    f"{_near_channels(channels, self.groups)}"
                )

    def fit(self, shape: Shape) -> Self:
        """Returns the layer with its input channels filled in; without out_channels, they stay as many."""
        if self.in_channels not in (None, shape[0]):
            raise ShapeError(
                f"in_channels is {self.in_channels}, but the input has {shape[0]} channels; set in_channels={shape[0]}"
            )
        return replace(self, in_channels=shape[0], out_channels=self.out_channels or shape[0])

    def out_channels_for(self, channels: int) -> int:
        """Channels after the layer."""
        return self.out_channels or channels

    def _num_weights(self) -> int:
        """Number of weights: output channels times input channels of a group times kernel positions."""
        if self.in_channels is None or self.out_channels is None:
            raise ShapeError("parameters need the channels: give in_channels and out_channels")
        return self.in_channels * self.out_channels // self.groups * prod(self.kernel_size)

    def num_parameters(self) -> int:
        """Weights and biases."""
        return self._num_weights() + (self.out_channels or 0) * self.bias

    def _code(self, name: str, **options: tuple[str, str]) -> str:
        channels = f"{self.in_channels or 'C_in'}, {self.out_channels or 'C_out'}"
        text = options_text(
            stride=(tuple_text(self.stride), "1"),
            **options,
            dilation=(tuple_text(self.dilation), "1"),
            groups=(str(self.groups), "1"),
            bias=(str(self.bias), "True"),
        )
        return f"nn.{name}{self.dims}d({channels}, {tuple_text(self.kernel_size)}{text})"


def _near_channels(channels: int, groups: int) -> str:
    divisor = next(count for count in range(groups, 0, -1) if channels % count == 0)
    return f"{multiples_text(channels, groups)} channels, or groups={divisor}"


@dataclass(frozen=True)
class Conv(_Channels):
    """nn.Conv1d, 2d, 3d. `padding` is a number for each axis, or "same" (stride 1 only) or "valid" (none)."""

    padding: Size | str = ()
    padding_mode: str = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.padding, str) and self.padding not in ("same", "valid"):
            raise ShapeError(f"padding {self.padding!r} is neither a number nor 'same' nor 'valid'")
        if self.padding_mode not in PADDING_MODES:
            raise ShapeError(f"no padding_mode {self.padding_mode!r}; there are {', '.join(PADDING_MODES)}")
        for axis in range(self.dims):
            check_window(self.window(axis))
            if self.padding == "same" and self.stride[axis] > 1:
                span = self.window(axis).span
                raise ShapeError(
                    f"padding='same' needs stride 1. What would work: padding={span // 2}, which gives ceil(in / "
                    "stride) for odd kernels, or F.pad in front"
                )

    def window(self, axis: int) -> Window:
        """The window along one axis."""
        window = Window(self.kernel_size[axis], self.stride[axis], dilation=self.dilation[axis])
        if self.padding == "same":
            left, right = same_padding(window.span)
        else:
            left = right = 0 if isinstance(self.padding, str) else self.padding[axis]
        return replace(window, pad_left=left, pad_right=right)

    def out_size(self, axis: int, size: int) -> int:
        """floor((in + 2*padding - dilation*(kernel_size - 1) - 1) / stride) + 1."""
        window = self.window(axis)
        self._check_padding_mode(size, window)
        return conv_size(size, window)

    def _check_padding_mode(self, size: int, window: Window) -> None:
        # F.pad copies positions of the input, so there must be enough of them
        most = {"reflect": size - 1, "circular": size}.get(self.padding_mode)
        if most is not None and max(window.pad_left, window.pad_right) > most:
            raise ShapeError(
                f"padding_mode {self.padding_mode!r} can pad an axis of {size} by at most {most}; "
                "padding_mode='replicate' or 'zeros' has no limit"
            )

    def formula(self, axis: int, size: int) -> str:
        """The formula of one axis with its numbers filled in."""
        window = self.window(axis)
        padding = (
            f"2*{window.pad_left}" if window.pad_left == window.pad_right else f"{window.pad_left} + {window.pad_right}"
        )
        return f"floor(({size} + {padding} - {window.dilation}*({window.kernel}-1) - 1) / {window.stride}) + 1"

    def border(self, axis: int, size: int) -> Border:
        """Input positions never read, and the padding that reads them."""
        window = self.window(axis)
        lost = count_unread(self.taps(axis, size), size=size, out=conv_size(size, window))
        return Border(
            lost.right, lost.between, leftover(size, window), self._hint(size, window) if lost.right else None
        )

    def _hint(self, size: int, window: Window) -> str:
        for padding in (window.span // 2, *range(window.span)):
            wider = replace(window, pad_left=padding, pad_right=padding)
            if padding > window.pad_left and leftover(size, wider) <= padding:
                return f"padding={padding} gives {conv_size(size, wider)}"
        missing = window.stride - leftover(size, window)
        return f"an input of {size + missing} gives {conv_size(size + missing, window)}"

    def notes(self, axis: int, size: int) -> list[str]:
        """TensorFlow's SAME, if the stride makes it differ from symmetric padding."""
        window = self.window(axis)
        left, right = tensorflow_same(size, span=window.span, stride=window.stride)
        if window.stride == 1 or left == right or window.padding == 0:
            return []
        return [
            f"TensorFlow's SAME pads {left} on the left and {right} on the right here: F.pad(x, ({left}, "
            f"{right})) and padding=0"
        ]

    def num_macs(self, shape: Shape) -> int:
        """Weights times output positions."""
        return self._num_weights() * prod(self.out_shape(shape)[1:])

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        padding = repr(self.padding) if isinstance(self.padding, str) else tuple_text(self.padding)
        return self._code("Conv", padding=(padding, "0"), padding_mode=(repr(self.padding_mode), "'zeros'"))


@dataclass(frozen=True)
class ConvTranspose(_Channels):
    """nn.ConvTranspose1d, 2d, 3d."""

    padding: Size = ()
    output_padding: Size = ()

    def out_size(self, axis: int, size: int) -> int:
        """(in - 1)*stride - 2*padding + dilation*(kernel_size - 1) + output_padding + 1."""
        return transposed_size(size, self.window(axis), self.output_padding[axis])

    def formula(self, axis: int, size: int) -> str:
        """The formula of one axis with its numbers filled in."""
        window = self.window(axis)
        return (
            f"({size}-1)*{window.stride} - 2*{window.pad_left} + {window.dilation}*({window.kernel}-1) + "
            f"{self.output_padding[axis]} + 1"
        )

    def simplified(self, axis: int) -> str:
        """The formula of one axis in the unknown `in`."""
        window = self.window(axis)
        return linear_text(window.stride, window.span + self.output_padding[axis] - window.padding - window.stride)

    def taps(self, axis: int, size: int) -> Taps:
        """What each output position reads along one axis; it depends on the position."""
        window = self.window(axis)
        return transposed_taps(
            kernel=window.kernel, stride=window.stride, pad=window.pad_left, dilation=window.dilation
        )

    def notes(self, axis: int, size: int) -> list[str]:
        """The range of output_size, uneven overlap, and outputs that are only the bias."""
        window = self.window(axis)
        least = (size - 1) * window.stride - window.padding + window.span
        notes = (
            [f"forward(output_size=) can ask for {least} to {least + window.stride - 1}"] if window.stride > 1 else []
        )
        if window.stride > window.span:
            notes.append(
                f"stride {window.stride} is larger than the kernel's span {window.span}: some outputs are only the bias"
            )
        elif window.dilation == 1 and window.kernel % window.stride:
            notes.append(
                f"kernel_size {window.kernel} is no multiple of stride {window.stride}: outputs overlap unevenly "
                "(checkerboard)"
            )
        return notes

    def num_macs(self, shape: Shape) -> int:
        """Weights times input positions: every input position meets every tap once, even where padding crops the output."""
        self.out_shape(shape)
        return self._num_weights() * prod(shape[1:])

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        return self._code(
            "ConvTranspose",
            padding=(tuple_text(self.padding), "0"),
            output_padding=(tuple_text(self.output_padding), "0"),
        )
