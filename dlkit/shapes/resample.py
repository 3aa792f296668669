"""Layers that resample an image: interpolation and pixel shuffling."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

from dlkit.shapes.layer import Spatial, options_text
from dlkit.shapes.size import ShapeError, Size, multiples_text, tuple_text
from dlkit.shapes.taps import Taps, adaptive_taps, transposed_taps, window_taps
from dlkit.shapes.window import check_positive

# each mode of F.interpolate: the numbers of spatial axes it takes, and how far it reaches from the source position
MODES = {
    "nearest": ((1, 2, 3), 0),
    "nearest-exact": ((1, 2, 3), 0),
    "area": ((1, 2, 3), 0),
    "linear": ((1,), 1),
    "bilinear": ((2,), 1),
    "trilinear": ((3,), 1),
    "bicubic": ((2,), 2),
    "lanczos": ((2,), 3),
}


@dataclass(frozen=True)
class Upsample(Spatial):
    """nn.Upsample and F.interpolate, by `size` or by `scale` (one of them), up or down."""

    num_axes: int
    size: Size | None = None
    scale: tuple[float, ...] | None = None
    mode: str = "nearest"
    align_corners: bool = False
    antialias: bool = False

    def __post_init__(self) -> None:
        if self.size is None and self.scale is None:
            raise ShapeError("a size or a scale factor is missing; for example size=64 or scale=2")
        if self.size is not None and self.scale is not None:
            raise ShapeError("give either a size or a scale factor, not both")
        if self.mode not in MODES:
            raise ShapeError(f"no mode {self.mode!r}; there are {', '.join(MODES)}")
        self._check_mode()

    def _check_mode(self) -> None:
        if self.num_axes not in MODES[self.mode][0]:
            fitting = [mode for mode, (dims, _) in MODES.items() if self.num_axes in dims]
            raise ShapeError(
                f"mode {self.mode!r} does not take {self.num_axes} spatial axes. What would work: {', '.join(fitting)}"
            )
        if self.align_corners and self.mode in ("nearest", "nearest-exact", "area"):
            raise ShapeError(f"align_corners is only for linear, bilinear, bicubic and trilinear, not {self.mode!r}")
        if self.antialias and self.mode not in ("bilinear", "bicubic", "lanczos"):
            raise ShapeError(f"antialias is only for bilinear, bicubic and lanczos, not {self.mode!r}")
        if self.mode == "lanczos" and not self.antialias:
            raise ShapeError("mode 'lanczos' needs antialias=True")

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return self.num_axes

    def out_size(self, axis: int, size: int) -> int:
        """The given size, or floor(in * scale) in 64-bit floating point."""
        out = self.size[axis] if self.size else floor(float(size) * (self.scale or ())[axis])
        if out < 1 and not (out == 0 and self.mode == "area"):  # area pools adaptively, which torch allows to 0
            least = f"scale={1 / size:.4g} or more" if self.scale else "size=1 or more"
            raise ShapeError(f"an input of {size} becomes {out}. What would work: {least}")
        return out

    def formula(self, axis: int, size: int) -> str:
        """The exact product, before it is rounded down."""
        return (
            f"floor({size} * {self.scale[axis]!r} = {float(size) * self.scale[axis]!r})"
            if self.scale
            else str(self.out_size(axis, size))
        )

    def simplified(self, axis: int) -> str:
        """The formula of one axis in the unknown `in`."""
        if self.size:
            return str(self.size[axis])
        scale = (self.scale or ())[axis]
        return f"{scale:g}*in" if scale == int(scale) else f"floor({scale!r}*in)"

    def taps(self, axis: int, size: int) -> Taps:
        """What each output position reads along one axis; rounding at the border is left out."""
        out = self.out_size(axis, size)
        if self.mode == "area" or out == 0:
            return adaptive_taps(size, out)
        ratio = self._ratio(axis, size, out)
        support = MODES[self.mode][1] * (max(ratio, Fraction(1)) if self.antialias else 1)
        half = Fraction(0) if self.mode == "nearest" or self.align_corners else Fraction(1, 2)
        centres = [(index + half) * ratio - (0 if support == 0 else half) for index in range(ratio.denominator)]
        return _taps(centres, support, advance=ratio.numerator)

    def _ratio(self, axis: int, size: int, out: int) -> Fraction:
        """Input positions per output position: torch steps by 1/scale where a scale is given, whatever is rounded off.

        With aligned corners the first and the last positions lie on each other, and a scale only sets the size.
        A scale stands for the nearest fraction with a denominator up to 1000, so that the pattern of taps repeats.
        """
        if self.align_corners:
            return Fraction(size - 1, out - 1) if out > 1 else Fraction(0)
        scale = Fraction((self.scale or (0.0,) * self.num_axes)[axis]).limit_denominator(1000)
        return 1 / scale if scale else Fraction(size, out)

    def notes(self, axis: int, size: int) -> list[str]:
        """Surprising rounding of a scale."""
        if not self.scale or (exact := float(size) * self.scale[axis]) == floor(exact):
            return []
        out = floor(exact)
        if exact - out > 1 - 1e-6:
            return [f"{exact!r} falls just short of {out + 1}: say size={out + 1} instead of the scale"]
        return [f"rounded down from {exact:g}; size={out} says it exactly and traces and exports alike"]

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        where = f"size={tuple_text(self.size)}" if self.size else f"scale_factor={_scale_text(self.scale or ())}"
        corners = options_text(align_corners=(str(self.align_corners), "False"))
        if self.antialias or self.mode == "area":
            antialias = options_text(antialias=(str(self.antialias), "False"))
            return f"F.interpolate(x, {where}, mode={self.mode!r}{corners}{antialias})"
        return f"nn.Upsample({where}, mode={self.mode!r}{corners})"


def _taps(centres: list[Fraction], support: int | Fraction, *, advance: int) -> Taps:
    if support == 0:
        return Taps(tuple((floor(centre),) for centre in centres), advance)
    # taps are the positions strictly less than `support` away
    edges = [(floor(centre - support) + 1, -floor(-centre - support)) for centre in centres]
    return Taps(tuple(tuple(range(*edge)) for edge in edges), advance)


def _scale_text(scale: tuple[float, ...]) -> str:
    return tuple_text([f"{number:g}" if number == int(number) else repr(number) for number in scale])


@dataclass(frozen=True)
class PixelShuffle(Spatial):
    """nn.PixelShuffle: channels become positions, `factor` times as many per axis."""

    factor: int

    def __post_init__(self) -> None:
        check_positive(upscale_factor=self.factor)

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return 2

    def out_size(self, axis: int, size: int) -> int:
        """in * factor."""
        return size * self.factor

    def out_channels_for(self, channels: int) -> int:
        """Channels divided by the squared factor."""
        square = self.factor**2
        if channels % square:
            raise ShapeError(
                f"{channels} channels are not divisible by upscale_factor^2 = {square}. What would work: "
                f"{multiples_text(channels, square)} channels"
            )
        return channels // square

    def formula(self, axis: int, size: int) -> str:
        """The formula of one axis with its numbers filled in."""
        return f"{size} * {self.factor}"

    def simplified(self, axis: int) -> str:
        """The formula of one axis in the unknown `in`."""
        return f"{self.factor}*in"

    def taps(self, axis: int, size: int) -> Taps:
        """What each output position reads along one axis."""
        return transposed_taps(kernel=self.factor, stride=self.factor, pad=0)

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        return f"nn.PixelShuffle({self.factor})"


@dataclass(frozen=True)
class PixelUnshuffle(Spatial):
    """nn.PixelUnshuffle: positions become channels, `factor` times fewer per axis."""

    factor: int

    def __post_init__(self) -> None:
        check_positive(downscale_factor=self.factor)

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return 2

    def out_size(self, axis: int, size: int) -> int:
        """in / factor, which must be whole."""
        if size % self.factor:
            raise ShapeError(
                f"size {size} is not divisible by downscale_factor {self.factor}. What would work: an input of "
                f"{multiples_text(size, self.factor)}"
            )
        return size // self.factor

    def out_channels_for(self, channels: int) -> int:
        """Channels times the squared factor."""
        return channels * self.factor**2

    def formula(self, axis: int, size: int) -> str:
        """The formula of one axis with its numbers filled in."""
        return f"{size} / {self.factor}"

    def simplified(self, axis: int) -> str:
        """The formula of one axis in the unknown `in`."""
        return f"in / {self.factor}"

    def taps(self, axis: int, size: int) -> Taps:
        """What each output position reads along one axis."""
        return window_taps(kernel=self.factor, stride=self.factor, pad=0)

    def torch_code(self) -> str:
        """The line that builds the layer in torch."""
        return f"nn.PixelUnshuffle({self.factor})"
