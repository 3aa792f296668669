"""Sliding windows along one axis: output sizes as torch computes them, padding, and refusals that say what would work."""

from dataclasses import dataclass

from dlkit.shapes.size import ShapeError


@dataclass(frozen=True)
class Window:
    """A window of `kernel` taps that moves by `stride` over one axis padded on both sides."""

    kernel: int
    stride: int = 1
    pad_left: int = 0
    pad_right: int = 0
    dilation: int = 1

    @property
    def span(self) -> int:
        """Positions from the first tap to the last."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def padding(self) -> int:
        """Padding of both sides together."""
        return self.pad_left + self.pad_right


def check_positive(**numbers: int) -> None:
    """Raise ShapeError unless each number is at least 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ShapeError(f"{name} is {number}; it must be at least 1")


def check_window(window: Window) -> None:
    """Raise ShapeError for options that are wrong for any input."""
    check_positive(kernel_size=window.kernel, stride=window.stride, dilation=window.dilation)
    if min(window.pad_left, window.pad_right) < 0:
        raise ShapeError(
            f"padding is {min(window.pad_left, window.pad_right)}; it must be at least 0 (crop with a negative "
            "F.pad instead)"
        )


def conv_size(size: int, window: Window) -> int:
    """floor((size + padding - span) / stride) + 1. Raises ShapeError if the kernel does not fit the padded input."""
    check_window(window)
    _check_input(size)
    room = size + window.padding - window.span
    if room < 0:
        raise ShapeError(_too_large(size, window, is_pool=False))
    return room // window.stride + 1


def _check_input(size: int) -> None:
    if size < 1:
        raise ShapeError(f"input size is {size}; it must be at least 1")


def _too_large(size: int, window: Window, *, is_pool: bool) -> str:
    dilated = f"with dilation {window.dilation} spans {window.span}," if window.dilation > 1 else "is"
    padded = f"the input {size}" + (f" padded to {size + window.padding}" if window.padding else "")
    ways = [f"an input of at least {max(1, window.span - window.padding)}"]
    needed = -(-(window.span - size) // 2)
    if not is_pool or needed <= window.kernel // 2:
        ways.append(f"padding={needed}")
    fitting = (size + window.padding - 1) // window.dilation + 1
    if fitting >= (max(1, window.padding) if is_pool else 1):  # pooling pads by half the kernel at most
        ways.append(f"kernel_size={fitting}" + ("" if is_pool and window.padding else " or less"))
    return f"kernel_size {window.kernel} {dilated} more than {padded}. What would work: {', '.join(ways)}"


def transposed_size(size: int, window: Window, output_padding: int = 0) -> int:
    """(size - 1)*stride - padding + span + output_padding.

    Raises ShapeError if nothing is left, or if output_padding is not below the stride or the dilation.
    """
    check_window(window)
    _check_input(size)
    if output_padding < 0:
        raise ShapeError(f"output_padding is {output_padding}; it must be at least 0")
    if output_padding >= max(window.stride, window.dilation):
        raise ShapeError(_output_padding_too_large(window, output_padding))
    out = (size - 1) * window.stride - window.padding + window.span + output_padding
    if out < 1:
        most = (out + window.padding - 1) // 2
        ways = [f"padding={most} or less"] if most >= 0 else []
        ways.append(f"an input of at least {(window.padding - window.span - output_padding) // window.stride + 2}")
        raise ShapeError(
            f"padding crops {window.padding} positions and leaves {out}. What would work: {', '.join(ways)}"
        )
    return out


def _output_padding_too_large(window: Window, output_padding: int) -> str:
    most = max(window.stride, window.dilation) - 1
    return (
        f"output_padding {output_padding} must be smaller than the stride ({window.stride}) or the dilation "
        f"({window.dilation}). "
        f"What would work: output_padding={most} or less, or stride={output_padding + 1}"
    )


def pool_size(size: int, window: Window, *, ceil_mode: bool = False) -> int:
    """Size after pooling; with ceil_mode the last window must start inside the input or its left padding.

    Raises ShapeError if the padding is more than half the undilated kernel, or if no window fits.
    The rule is that of `pooling_output_shape` in torch's Pool.h.
    """
    check_window(window)
    _check_input(size)
    if window.pad_left > window.kernel // 2:
        raise ShapeError(
            f"padding {window.pad_left} is more than half of kernel_size {window.kernel}. "
            f"What would work: padding={window.kernel // 2} or less, kernel_size={2 * window.pad_left} or more, "
            "or F.pad in front"
        )
    out = _pool_windows(size, window, ceil_mode=ceil_mode)
    if out < 1:
        raise ShapeError(_too_large(size, window, is_pool=True))
    return out


def _pool_windows(size: int, window: Window, *, ceil_mode: bool) -> int:
    room = size + window.padding - window.span
    if not ceil_mode:
        return room // window.stride + 1
    out = -(-room // window.stride) + 1
    return out - 1 if (out - 1) * window.stride >= size + window.pad_left else out


def same_padding(span: int) -> tuple[int, int]:
    """Left and right padding of padding='same'; if the sum is odd, the right gets one more, as in torch.

    >>> same_padding(4)
    (1, 2)
    """
    return (span - 1) // 2, span - 1 - (span - 1) // 2


def tensorflow_same(size: int, *, span: int, stride: int) -> tuple[int, int]:
    """Left and right padding that give ceil(size / stride) for any stride, as TensorFlow's SAME does.

    >>> tensorflow_same(224, span=3, stride=2)
    (0, 1)
    """
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def leftover(size: int, window: Window) -> int:
    """Padded positions on the right that no window reaches, because the size is rounded down."""
    return (size + window.padding - window.span) % window.stride
