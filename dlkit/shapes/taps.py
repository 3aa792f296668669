"""Taps (the input positions that an output reads) and receptive fields, exact for every layer and across branches.

Along one axis every layer is periodic: output `i + period` reads what output `i` reads, `advance` positions further on.
A convolution has period 1 and advances by its stride. Upsampling and transposed convolution have a longer period, so
their receptive field depends on the position. Composition and union of such patterns are periodic again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import gcd, lcm

Span = tuple[int, int]  # first and last position; empty if the first comes after the last


@dataclass(frozen=True)
class Taps:
    """The input positions that a layer reads, for each output of one period; positions below 0 are padding."""

    offsets: tuple[tuple[int, ...], ...]
    advance: int

    def at(self, index: int) -> tuple[int, ...]:
        """Input positions read by output `index`, in rising order."""
        turns, phase = divmod(index, len(self.offsets))
        return tuple(offset + turns * self.advance for offset in self.offsets[phase])


SAME_POSITION = Taps(((0,),), 1)


def window_taps(*, kernel: int, stride: int, pad: int, dilation: int = 1) -> Taps:
    """Taps of a convolution or a pooling layer."""
    return Taps((tuple(tap * dilation - pad for tap in range(kernel)),), stride)


def transposed_taps(*, kernel: int, stride: int, pad: int, dilation: int = 1) -> Taps:
    """Taps of a transposed convolution: output i reads input j where i = j*stride - pad + t*dilation for a tap t."""
    offsets = []
    for phase in range(stride):
        places = (phase + pad - tap * dilation for tap in reversed(range(kernel)))
        offsets.append(tuple(place // stride for place in places if place % stride == 0))
    return Taps(tuple(offsets), 1)


def adaptive_taps(size: int, out: int) -> Taps:
    """Taps of adaptive pooling: window i is [floor(i*size/out), ceil((i+1)*size/out)) (AdaptivePooling.h)."""
    if out == 0:
        return SAME_POSITION
    divisor = gcd(size, out)
    edges = ((index * size // out, -(-(index + 1) * size // out)) for index in range(out // divisor))
    return Taps(tuple(tuple(range(*edge)) for edge in edges), size // divisor)


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field along one axis: the span of the image that each output of one period sees, not clipped."""

    spans: tuple[Span, ...]
    advance: int

    @property
    def period(self) -> int:
        """Outputs until the pattern repeats."""
        return len(self.spans)

    @property
    def jump(self) -> Fraction:
        """Image positions between the windows of neighbouring outputs, on average; 0 where all see the same."""
        return Fraction(self.advance, self.period)

    @property
    def size(self) -> int:
        """Receptive field, the largest over all output positions."""
        return max(0, *(high - low + 1 for low, high in self.spans), 0)

    @property
    def smallest(self) -> int:
        """Receptive field, the smallest over all output positions."""
        return max(0, min(high - low + 1 for low, high in self.spans))

    @property
    def start(self) -> Fraction:
        """Centre of the first output's window in image positions, where 0 is the centre of the first pixel."""
        return Fraction(sum(self.spans[0]), 2)

    def at(self, index: int) -> Span:
        """First and last image position seen by output `index`, before clipping to the image."""
        turns, phase = divmod(index, self.period)
        low, high = self.spans[phase]
        return low + turns * self.advance, high + turns * self.advance


IDENTITY = ReceptiveField(((0, 0),), 1)


def compose(taps: Taps, field: ReceptiveField) -> ReceptiveField:
    """The receptive field behind a layer, given that in front of it."""
    times = field.period // gcd(taps.advance, field.period) if taps.advance else 1
    outputs = range(len(taps.offsets) * times)
    spans = tuple(_hull([field.at(place) for place in taps.at(index)]) for index in outputs)
    return _reduced(ReceptiveField(spans, taps.advance * times // field.period * field.advance))


def _hull(spans: Sequence[Span]) -> Span:
    seen = [span for span in spans if span[0] <= span[1]]
    return (min(low for low, _ in seen), max(high for _, high in seen)) if seen else (1, 0)


def _reduced(reach: ReceptiveField) -> ReceptiveField:
    """The same pattern with its shortest period."""
    for period in range(1, reach.period):
        if reach.period % period or reach.advance * period % reach.period:
            continue
        short = ReceptiveField(reach.spans[:period], reach.advance * period // reach.period)
        if all(_same(short.at(index), span) for index, span in enumerate(reach.spans)):
            return short
    return reach


def _same(one: Span, other: Span) -> bool:
    return one == other or (one[0] > one[1] and other[0] > other[1])


def union(fields: Sequence[ReceptiveField], *, size: int) -> ReceptiveField:
    """The receptive field of a concatenation or a sum along an axis of `size` outputs.

    Branches with different jumps drift apart, so their union repeats only after the whole axis.
    """
    return _reduced(reduce(lambda one, other: _union_of_two(one, other, size), fields))


def _union_of_two(one: ReceptiveField, other: ReceptiveField, size: int) -> ReceptiveField:
    period = lcm(one.period, other.period) if one.jump == other.jump else max(size, 1)
    spans = tuple(_hull([one.at(index), other.at(index)]) for index in range(period))
    return ReceptiveField(spans, int(max(one.jump, other.jump) * period))


@dataclass(frozen=True)
class Unread:
    """How many input positions no window reads: behind the last window, and between windows or taps."""

    right: int
    between: int


def count_unread(taps: Taps, *, size: int, out: int) -> Unread:
    """Count the input positions that none of `out` outputs reads."""
    read = {place for index in range(out) for place in taps.at(index)}
    last = max((place for place in read if place < size), default=-1)
    return Unread(size - 1 - last, sum(place not in read for place in range(last + 1)))
