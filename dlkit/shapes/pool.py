"""Pooling: max, average, power-average, adaptive, and max unpooling."""

from dataclasses import dataclass

from dlkit.shapes.layer import Border, Spatial, Windowed, linear_text, options_text
from dlkit.shapes.size import ShapeError, Size, tuple_text
from dlkit.shapes.taps import Taps, adaptive_taps, count_unread, transposed_taps
from dlkit.shapes.window import Window, check_window, leftover, pool_size

_TORCH_NAMES = {"max": "MaxPool", "avg": "AvgPool", "lp": "LPPool"}


@dataclass(frozen=True)
class Pool(Windowed):
    """nn.MaxPool, AvgPool or LPPool in 1d, 2d, 3d; `operation` is max, avg or lp. Only max has dilation; lp has no padding."""

    operation: str
    kernel_size: Size
    stride: Size
    padding: Size
    dilation: Size
    ceil_mode: bool = False
    norm_type: float = 2.0  # lp only; the next two are for avg; all three change values, never sizes
    count_include_pad: bool = True
    divisor_override: int | None = None

    def __post_init__(self) -> None:
        if self.operation not in _TORCH_NAMES:
            raise ShapeError(f"no pooling {self.operation!r}; there are max, avg and lp")
        if self.operation != "max" and max(self.dilation) > 1:
            raise ShapeError(f"{_TORCH_NAMES[self.operation]} takes no dilation; only max pooling does")
        if self.operation == "lp" and max(self.padding) > 0:
            raise ShapeError("LPPool takes no padding; use F.pad in front")
        if self.norm_type == 0:
            raise ShapeError("norm_type is 0; LPPool divides by it, 1 and 2 are usual")
        if self.divisor_override is not None and (self.divisor_override == 0 or self.dims == 1):
            raise ShapeError("divisor_override is a number other than 0, and only for 2-d and 3-d average pooling")
        for axis in range(self.dims):
            check_window(self.window(axis))

    def out_size(self, axis: int, size: int) -> int:
        """floor or ceil of (in + 2*padding - span) / stride, plus 1; no window starts in the right padding."""
        kernel = self.kernel_size[axis]
        if self.operation != "max" and self.dims == 3 and size < kernel:
            raise ShapeError(
                f"3-d average pooling refuses an input {size} below kernel_size {kernel}, also with padding; "
                f"kernel_size={size} would work"
            )
        return pool_size(size, self.window(axis), ceil_mode=self.ceil_mode)

    def formula(self, axis: int, size: int) -> str:
        """The formula of one axis with its numbers filled in."""
        window = self.window(axis)
        rounding = "ceil" if self.ceil_mode else "floor"
        room = f"{size} + 2*{window.pad_left} - {window.dilation}*({window.kernel}-1) - 1"
        text = f"{rounding}(({room}) / {window.stride}) + 1"
        return text + (" - 1" if self._drops_last(axis, size) else "")

    def _drops_last(self, axis: int, size: int) -> bool:
        window = self.window(axis)
        return self.ceil_mode and -(-(size + window.padding - window.span) // window.stride) + 1 > self.out_size(
            axis, size
        )

    def simplified(self, axis: int) -> str:
        """The formula of one axis in the unknown `in`; with ceil_mode the rule of the last window is said in words."""
        text = super().simplified(axis)
        if not self.ceil_mode:
            return text
        rule = " (- 1 if the last window starts in the padding)" if self.stride[axis] > 1 else ""
        return text.replace("floor", "ceil") + rule

    def border(self, axis: int, size: int) -> Border:
        """Input positions never read, and the option that reads them."""
        window = self.window(axis)
        lost = count_unread(self.taps(axis, size), size=size, out=self.out_size(axis, size))
        rest = 0 if self.ceil_mode else leftover(size, window)
        return Border(lost.right, lost.between, rest, self._hint(size, window) if lost.right else None)

    def _hint(self, size: int, window: Window) -> str:
        rounded_up = pool_size(size, window, ceil_mode=True)
        if not self.ceil_mode and rounded_up > pool_size(size, window):
            return f"ceil_mode=True gives {rounded_up}"
        missing = window.stride - leftover(size, window)
        return f"an input of {size + missing} gives {pool_size(size + missing, window)}"

    def notes(self, axis: int, size: int) -> list[str]:
        """Says when ceil_mode drops the last window."""
        if self._drops_last(axis, size):
            return ["ceil_mode drops the last window: it would start in the right padding (torch's rule)"]
        return []

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        norm = f"{self.norm_type:g}, " if self.operation == "lp" else ""
        options = options_text(
            stride=(tuple_text(self.stride), tuple_text(self.kernel_size)),
            padding=(tuple_text(self.padding), "0"),
            dilation=(tuple_text(self.dilation), "1"),
            ceil_mode=(str(self.ceil_mode), "False"),
            count_include_pad=(str(self.count_include_pad), "True"),
            divisor_override=(str(self.divisor_override), "None"),
        )
        return f"nn.{_TORCH_NAMES[self.operation]}{self.dims}d({norm}{tuple_text(self.kernel_size)}{options})"


@dataclass(frozen=True)
class AdaptivePool(Spatial):
    """nn.AdaptiveAvgPool or AdaptiveMaxPool: the output sizes are given; None keeps an axis."""

    sizes: tuple[int | None, ...]
    operation: str = "avg"

    def __post_init__(self) -> None:
        if min(size for size in (*self.sizes, 0) if size is not None) < 0:
            raise ShapeError(f"output size {self.sizes} has a negative number; it must be at least 1")
        if self.sizes == (None,):
            raise ShapeError("one-dimensional adaptive pooling needs a number for the size")

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.sizes)

    def out_size(self, axis: int, size: int) -> int:
        """The given output size."""
        if size < 1:
            raise ShapeError(f"input size is {size}; it must be at least 1")
        wanted = self.sizes[axis]
        return size if wanted is None else wanted

    def formula(self, axis: int, size: int) -> str:
        """The output size, and where each window begins and ends."""
        out = self.out_size(axis, size)
        if out == 0 or self.sizes[axis] is None:
            return f"{out}   (kept)" if out else "0"
        return f"{out}   window i: [floor(i*{size}/{out}), ceil((i+1)*{size}/{out}))"

    def simplified(self, axis: int) -> str:
        """The given output size, or `in`."""
        wanted = self.sizes[axis]
        return "in" if wanted is None else str(wanted)

    def windows(self, axis: int, size: int) -> list[tuple[int, int]]:
        """First and last input position of each window along one axis."""
        read = [self.taps(axis, size).at(index) for index in range(self.out_size(axis, size))]
        return [(places[0], places[-1]) for places in read]

    def taps(self, axis: int, size: int) -> Taps:
        """What each output position reads along one axis."""
        return adaptive_taps(size, self.out_size(axis, size))

    def notes(self, axis: int, size: int) -> list[str]:
        """The equivalent plain pooling, or what follows from windows of different lengths."""
        out = self.out_size(axis, size)
        if out == 0:
            return ["an output of size 0 holds nothing"]
        if size % out == 0:
            return [f"windows are equal: the same as kernel_size={size // out}, stride={size // out}"]
        lengths = sorted({last - first + 1 for first, last in self.windows(axis, size)})
        windows = f"windows of {' and '.join(map(str, lengths))} positions overlap or differ"
        return [f"{out} does not divide {size}: {windows}; ONNX export with a fixed kernel needs a divisor of {size}"]

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        is_one = len(set(self.sizes)) == 1 and None not in self.sizes
        sizes = str(self.sizes[0]) if is_one else f"({', '.join(map(str, self.sizes))})"
        return f"nn.Adaptive{self.operation.capitalize()}Pool{self.dims}d({sizes})"


@dataclass(frozen=True)
class Unpool(Spatial):
    """nn.MaxUnpool1d, 2d, 3d: each value goes back where max pooling found it; `output_size` restores the exact size."""

    kernel_size: Size
    stride: Size
    padding: Size
    output_size: Size | None = None

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    def _default(self, axis: int, size: int) -> int:
        return (size - 1) * self.stride[axis] + self.kernel_size[axis] - 2 * self.padding[axis]

    def out_size(self, axis: int, size: int) -> int:
        """(in - 1)*stride + kernel_size - 2*padding, or output_size, which must be less than one stride away."""
        default, stride = self._default(axis, size), self.stride[axis]
        if self.output_size is None:
            if default < 0:
                raise ShapeError(
                    f"padding {self.padding[axis]} leaves {default}; "
                    f"padding={(default + 2 * self.padding[axis]) // 2} or less would work"
                )
            return default
        wanted = self.output_size[axis]
        if not default - stride < wanted < default + stride or wanted < 0:
            raise ShapeError(
                f"output_size {wanted} is out of reach for an input of {size}: {max(0, default - stride + 1)} to "
                f"{default + stride - 1} would work"
            )
        return wanted

    def formula(self, axis: int, size: int) -> str:
        """The formula of one axis with its numbers filled in, and the difference that output_size makes."""
        text = f"({size}-1)*{self.stride[axis]} + {self.kernel_size[axis]} - 2*{self.padding[axis]}"
        asked = self.out_size(axis, size) - self._default(axis, size)
        return f"{text} {'+' if asked > 0 else '-'} {abs(asked)} by output_size" if asked else text

    def simplified(self, axis: int) -> str:
        """The formula of one axis in the unknown `in`."""
        return linear_text(self.stride[axis], self.kernel_size[axis] - self.stride[axis] - 2 * self.padding[axis])

    def taps(self, axis: int, size: int) -> Taps:
        """What each output position can read along one axis."""
        return transposed_taps(kernel=self.kernel_size[axis], stride=self.stride[axis], pad=self.padding[axis])

    def notes(self, axis: int, size: int) -> list[str]:
        """The range of output_size."""
        default, stride = self._default(axis, size), self.stride[axis]
        return (
            [f"forward(output_size=) can ask for {max(0, default - stride + 1)} to {default + stride - 1}"]
            if stride > 1
            else []
        )

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        options = options_text(
            stride=(tuple_text(self.stride), tuple_text(self.kernel_size)), padding=(tuple_text(self.padding), "0")
        )
        return f"nn.MaxUnpool{self.dims}d({tuple_text(self.kernel_size)}{options})"
