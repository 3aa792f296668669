"""Which positions of the image an output position sees, exact for every kind of layer and across branches.

Along one axis every layer is periodic: output `i + period` sees what output `i` sees, `advance` positions further on.
For a convolution the period is 1 and the advance its stride; upsampling and transposed convolution have a longer one,
so that their receptive field depends on the position. Composition and union stay in this form.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import gcd, lcm


@dataclass(frozen=True)
class Reach:
    """First and last position seen by each output of one period; before clipping, so below 0 means padding.

    An output that sees nothing (a gap of a transposed convolution) has a first position after its last.
    """

    lows: tuple[int, ...]
    highs: tuple[int, ...]
    advance: int

    @property
    def period(self) -> int:
        """Outputs until the pattern repeats."""
        return len(self.lows)

    @property
    def jump(self) -> Fraction:
        """Image positions between the windows of neighbouring outputs, on average; 0 where all see the same."""
        return Fraction(self.advance, self.period)

    @property
    def size(self) -> int:
        """Receptive field, the largest over all output positions."""
        return max(0, *(high - low + 1 for low, high in zip(self.lows, self.highs, strict=True)))

    @property
    def smallest(self) -> int:
        """Receptive field, the smallest over all output positions."""
        return max(0, min(high - low + 1 for low, high in zip(self.lows, self.highs, strict=True)))

    @property
    def start(self) -> Fraction:
        """Centre of the first output's window in image positions, where 0 is the centre of the first pixel."""
        return Fraction(self.lows[0] + self.highs[0], 2)

    @property
    def padding(self) -> int:
        """How far the first window sticks out on the left."""
        return max(0, -self.lows[0])

    def at(self, index: int) -> tuple[int, int]:
        """First and last position seen by output `index`, before clipping to the image."""
        turns, phase = divmod(index, self.period)
        return self.lows[phase] + turns * self.advance, self.highs[phase] + turns * self.advance

    def repeated(self, times: int) -> "Reach":
        """The same pattern, written with a period `times` as long."""
        spans = [self.at(index) for index in range(self.period * times)]
        return Reach(tuple(low for low, _ in spans), tuple(high for _, high in spans), self.advance * times)


IDENTITY = Reach((0,), (0,), 1)


def windows(*, kernel: int, stride: int, pad: int, dilation: int = 1) -> Reach:
    """Reach of a convolution or pooling."""
    return Reach((-pad,), (dilation * (kernel - 1) - pad,), stride)


def spread_windows(*, kernel: int, stride: int, pad: int, dilation: int = 1) -> Reach:
    """Reach of a transposed convolution: output i sees input j where i = j*stride - pad + t*dilation for a tap t."""
    spans = []
    for phase in range(stride):
        seen = [
            (phase + pad - tap * dilation) // stride
            for tap in range(kernel)
            if (phase + pad - tap * dilation) % stride == 0
        ]
        spans.append((min(seen), max(seen)) if seen else (1, 0))
    return Reach(tuple(low for low, _ in spans), tuple(high for _, high in spans), 1)


def shares(size: int, out: int) -> Reach:
    """Reach of adaptive pooling: window i is [floor(i*size/out), ceil((i+1)*size/out)) (AdaptivePooling.h)."""
    if out == 0:
        return IDENTITY
    divisor = gcd(size, out)
    period, advance = out // divisor, size // divisor
    lows = tuple(index * size // out for index in range(period))
    highs = tuple(-(-(index + 1) * size // out) - 1 for index in range(period))
    return Reach(lows, highs, advance)


def whole(size: int) -> Reach:
    """Every output sees all positions."""
    return Reach((0,), (size - 1,), 0)


def compose(layer: Reach, field: Reach) -> Reach:
    """Reach of a layer's outputs in the image, given the reach of its inputs."""
    times = field.period // gcd(layer.advance, field.period) if layer.advance else 1
    spans = [_span(field, *layer.at(index)) for index in range(layer.period * times)]
    advance = layer.advance * times // field.period * field.advance
    return _reduced(Reach(tuple(low for low, _ in spans), tuple(high for _, high in spans), advance))


def _span(field: Reach, first: int, last: int) -> tuple[int, int]:
    # an end can be decided by any position within one period of it, because positions may see nothing
    edge = min(field.period, last - first + 1)
    near = [*range(first, first + edge), *range(last - edge + 1, last + 1)]
    seen = [span for span in map(field.at, near) if span[0] <= span[1]]
    return (min(low for low, _ in seen), max(high for _, high in seen)) if seen else (1, 0)


def _reduced(reach: Reach) -> Reach:
    """The same pattern with its shortest period."""
    for period in range(1, reach.period):
        if reach.period % period or reach.advance * period % reach.period:
            continue
        short = Reach(reach.lows[:period], reach.highs[:period], reach.advance * period // reach.period)
        if short.repeated(reach.period // period) == reach:
            return short
    return reach


def union(fields: list[Reach], *, size: int) -> Reach:
    """Reach of a concatenation or a sum along an axis of `size` outputs.

    Branches with different jumps drift apart; their union has no shorter period than the axis itself.
    """
    return _reduced(reduce(lambda one, other: _union_of_two(one, other, size), fields))


def _union_of_two(one: Reach, other: Reach, size: int) -> Reach:
    drifts = one.jump != other.jump
    period = max(size, 1) if drifts else lcm(one.period, other.period)
    lows, highs = [], []
    for index in range(period):
        seen = [span for span in (one.at(index), other.at(index)) if span[0] <= span[1]]
        lows.append(min((low for low, _ in seen), default=1))
        highs.append(max((high for _, high in seen), default=0))
    advance = int(max(one.jump, other.jump) * period)
    return Reach(tuple(lows), tuple(highs), advance)
