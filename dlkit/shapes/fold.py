"""Unfold and fold: from an image to its blocks as columns, and back."""

from dataclasses import dataclass
from math import prod

from dlkit.shapes.layer import Layer, check_dims, options_text
from dlkit.shapes.size import Shape, ShapeError, Size, size_text, tuple_text
from dlkit.shapes.window import Window, check_window, conv_size


@dataclass(frozen=True)
class Unfold(Layer):
    """nn.Unfold: every block of an image becomes a column; (C, H, W) becomes (C*kernel positions, blocks)."""

    kernel_size: Size
    stride: Size
    padding: Size
    dilation: Size

    def __post_init__(self) -> None:
        for axis in range(2):
            check_window(self.window(axis))

    def window(self, axis: int) -> Window:
        """The window along one axis."""
        padding = self.padding[axis]
        return Window(self.kernel_size[axis], self.stride[axis], padding, padding, self.dilation[axis])

    def blocks(self, sizes: Size) -> Size:
        """Blocks along each axis of an image."""
        return tuple(conv_size(size, self.window(axis)) for axis, size in enumerate(sizes))

    def out_shape(self, shape: Shape) -> Shape:
        """(channels * kernel positions, blocks)."""
        check_dims(shape, 2, what="Unfold")
        return shape[0] * prod(self.kernel_size), prod(self.blocks(shape[1:]))

    def taps_per_axis(self, shape: Shape) -> None:
        """None: no spatial axes are left."""
        return

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        return f"nn.Unfold({tuple_text(self.kernel_size)}{_fold_options(self)})"


@dataclass(frozen=True)
class Fold(Layer):
    """nn.Fold: sums columns into an image of `output_size`; (C*kernel positions, blocks) becomes (C, H, W)."""

    output_size: Size
    kernel_size: Size
    stride: Size
    padding: Size
    dilation: Size

    def unfolding(self) -> Unfold:
        """The unfold layer that this one inverts."""
        return Unfold(self.kernel_size, self.stride, self.padding, self.dilation)

    def out_shape(self, shape: Shape) -> Shape:
        """(channels / kernel positions, *output_size)."""
        check_dims(shape, 1, what="Fold")
        taps, blocks = prod(self.kernel_size), self.unfolding().blocks(self.output_size)
        if shape[0] % taps:
            raise ShapeError(
                f"{shape[0]} channels are not divisible by the kernel's {taps} positions; "
                f"{(shape[0] // taps + 1) * taps} would work"
            )
        if shape[1] != prod(blocks):
            raise ShapeError(
                f"an image of {size_text(self.output_size)} has {size_text(blocks)} = {prod(blocks)} blocks, the "
                f"input has {shape[1]}"
            )
        return (shape[0] // taps, *self.output_size)

    def taps_per_axis(self, shape: Shape) -> None:
        """None: the axis of blocks is not a spatial axis."""
        return

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        return f"nn.Fold({tuple_text(self.output_size)}, {tuple_text(self.kernel_size)}{_fold_options(self)})"


def _fold_options(layer: Fold | Unfold) -> str:
    return options_text(
        dilation=(tuple_text(layer.dilation), "1"),
        padding=(tuple_text(layer.padding), "0"),
        stride=(tuple_text(layer.stride), "1"),
    )
