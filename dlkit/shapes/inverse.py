"""Layers solved backwards: which kernel, stride, padding and input give an output size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from dlkit.shapes.size import ShapeError, Size
from dlkit.shapes.window import Window, conv_size, leftover, pool_size, transposed_size

SOLVABLE = ("conv", "tconv", "maxpool", "avgpool", "lppool")


@dataclass(frozen=True)
class Geometry:
    """The options of one layer, the same on every axis."""

    kernel_size: int
    stride: int
    padding: int
    dilation: int = 1
    output_padding: int = 0
    ceil_mode: bool = False

    @property
    def span(self) -> int:
        """Positions from the kernel's first tap to its last."""
        return self.dilation * (self.kernel_size - 1) + 1

    def window(self) -> Window:
        """The window along one axis."""
        return Window(self.kernel_size, self.stride, self.padding, self.padding, self.dilation)


@dataclass(frozen=True)
class SolveRequest:
    """What is known; options and input that are None are searched. `outs` and `ins` have one size per axis."""

    kind: str
    outs: Size
    ins: Size | None = None
    kernel_size: int | None = None
    stride: int | None = None
    padding: int | None = None
    dilation: int | None = 1
    output_padding: int | None = None
    ceil_mode: bool = False


@dataclass(frozen=True)
class SearchLimits:
    """How far unknown options are searched. Padding goes up to the kernel's span - 1 (pools: half the kernel)."""

    kernel_size: int = 11
    stride: int = 8
    dilation: int = 4


@dataclass(frozen=True)
class LayerSolution:
    """A geometry that gives the output, per axis all inputs that do, and a note on what the geometry is known for."""

    geometry: Geometry
    inputs: tuple[range, ...]
    leftover: int | None
    note: str
    rank: tuple[int, ...]


def output_size(kind: str, size: int, geometry: Geometry) -> int:
    """Size of one axis after the layer. Raises ShapeError where torch refuses."""
    window = geometry.window()
    if kind == "conv":
        return conv_size(size, window)
    if kind == "tconv":
        return transposed_size(size, window, geometry.output_padding)
    return pool_size(size, window, ceil_mode=geometry.ceil_mode)


def inputs_for(kind: str, out: int, geometry: Geometry) -> range:
    """All input sizes that give `out`; there are no gaps between them."""
    candidates = _candidate_inputs(kind, out, geometry)
    fitting = [size for size in candidates if _gives(kind, size, geometry, out)]
    return range(fitting[0], fitting[-1] + 1) if fitting else range(0)


def _candidate_inputs(kind: str, out: int, geometry: Geometry) -> range:
    stride, padding = geometry.stride, 2 * geometry.padding
    if kind == "tconv":
        size = (out - geometry.span - geometry.output_padding + padding) // stride + 1
        return range(max(1, size), max(1, size) + 1)
    first = (out - 1) * stride - padding + geometry.span
    # with ceil_mode `out` begins up to a stride earlier, and the rule of the last window can keep it up to a span longer
    early, late = (stride, geometry.span + stride) if geometry.ceil_mode else (0, 0)
    return range(max(1, first - early), first + stride + late)


def _gives(kind: str, size: int, geometry: Geometry, out: int) -> bool:
    try:
        return output_size(kind, size, geometry) == out
    except ShapeError:
        return False


def solve(request: SolveRequest, limits: SearchLimits | None = None) -> list[LayerSolution]:
    """Every geometry within the limits that gives the output exactly, common ones first.

    Raises ShapeError for a kind that cannot be solved, or sizes that are no sizes.
    """
    _check(request)
    found = (_solution(request, geometry) for geometry in _geometries(request, limits or SearchLimits()))
    return sorted(filter(None, found), key=lambda solution: solution.rank)


def _check(request: SolveRequest) -> None:
    if request.kind not in SOLVABLE:
        raise ShapeError(f"cannot solve {request.kind!r} backwards; there are {', '.join(SOLVABLE)}")
    if request.ins and len(request.ins) != len(request.outs):
        raise ShapeError(f"--in has {len(request.ins)} axes and --out {len(request.outs)}; give both the same number")
    if min(*request.outs, *(request.ins or ()), 1) < 1:
        raise ShapeError("sizes must be at least 1")


def _solution(request: SolveRequest, geometry: Geometry) -> LayerSolution | None:
    inputs = tuple(inputs_for(request.kind, out, geometry) for out in request.outs)
    if not all(inputs) or (
        request.ins and not all(size in span for size, span in zip(request.ins, inputs, strict=True))
    ):
        return None
    rest = None
    if request.ins and request.kind != "tconv" and not request.ceil_mode:
        rest = leftover(request.ins[0], geometry.window())
    *rank, note = _rank(request.kind, geometry)
    options = (geometry.dilation, geometry.kernel_size, geometry.stride, geometry.padding, geometry.output_padding)
    return LayerSolution(geometry, inputs, rest, note, (*rank, *options))


def _geometries(request: SolveRequest, limits: SearchLimits) -> Iterator[Geometry]:
    kernels = _values(request.kernel_size, {*range(1, limits.kernel_size + 1), *_ratios(request)})
    dilations = _values(request.dilation, range(1, limits.dilation + 1))
    for kernel, dilation in product(kernels, dilations):
        if kernel == 1 and dilation > 1 and request.dilation is None:
            continue  # the same layer as with dilation 1
        start = Geometry(kernel, 1, 0, dilation, ceil_mode=request.ceil_mode)
        for padding in _values(request.padding, _paddings(request.kind, start)):
            padded = replace(start, padding=padding)
            for stride in _values(request.stride, _strides(request, padded, limits)):
                yield from _with_output_padding(request, replace(padded, stride=stride))


def _values(known: int | None, unknown: Iterable[int]) -> Iterable[int]:
    return sorted(unknown) if known is None else (known,)


def _ratios(request: SolveRequest) -> set[int]:
    """The kernel of a patch embedding or its inverse: input divided by output, however large."""
    if not request.ins:
        return set()
    small, large = sorted((request.ins[0], request.outs[0]))
    return {large // small}


def _paddings(kind: str, geometry: Geometry) -> range:
    if kind == "lppool":
        return range(1)
    return range(geometry.kernel_size // 2 + 1) if kind.endswith("pool") else range(geometry.span)


def _strides(request: SolveRequest, geometry: Geometry, limits: SearchLimits) -> Iterable[int]:
    """Strides that can give the output on the first axis; if any large stride does, those up to the limit."""
    if not request.ins:
        return range(1, limits.stride + 1)
    size, out = request.ins[0], request.outs[0]
    if request.kind == "tconv":
        return _transposed_strides(size, out, geometry, limits)
    room = size + 2 * geometry.padding - geometry.span
    if out == 1:
        return range(1, limits.stride + 1)
    if request.ceil_mode:
        # one window more than floor gives, unless it starts in the right padding; the last must start before that
        return range(max(1, room // out), (size + geometry.padding - 1) // (out - 1) + 1)
    return range(room // out + 1, room // (out - 1) + 1)


def _transposed_strides(size: int, out: int, geometry: Geometry, limits: SearchLimits) -> Iterable[int]:
    rest = out + 2 * geometry.padding - geometry.span  # (size - 1)*stride + output_padding
    if size == 1:
        return range(1, limits.stride + 1)
    # output_padding is below the larger of stride and dilation
    return range(max(1, (rest - geometry.dilation) // size), rest // (size - 1) + 1)


def _with_output_padding(request: SolveRequest, geometry: Geometry) -> Iterator[Geometry]:
    unknown = range(max(geometry.stride, geometry.dilation)) if request.kind == "tconv" else (0,)
    for output_padding in _values(request.output_padding, unknown):
        yield replace(geometry, output_padding=output_padding)


# well-known layers, the most common first within a kind: (kind, kernel, stride, padding, output_padding)
_KNOWN = {
    ("conv", 3, 2, 1, 0): "usual",
    ("conv", 3, 1, 1, 0): "usual, keeps the size",
    ("conv", 7, 2, 3, 0): "ResNet stem",
    ("conv", 1, 1, 0, 0): "pointwise",
    ("conv", 4, 2, 1, 0): "even, symmetric (GAN)",
    ("conv", 11, 4, 2, 0): "AlexNet stem",
    ("tconv", 4, 2, 1, 0): "usual, even overlap (DCGAN)",
    ("tconv", 2, 2, 0, 0): "no overlap (U-Net)",
    ("tconv", 3, 2, 1, 1): "mirror of conv k3 s2 p1",
    ("maxpool", 2, 2, 0, 0): "usual",
    ("avgpool", 2, 2, 0, 0): "usual",
    ("maxpool", 3, 2, 1, 0): "ResNet stem",
    ("maxpool", 3, 2, 0, 0): "overlapping (AlexNet)",
}


def _rank(kind: str, geometry: Geometry) -> tuple[int, int, str]:
    """The rank of a geometry, (0, 0) for the most common, and what it is known for."""
    kernel, stride, padding, extra = geometry.kernel_size, geometry.stride, geometry.padding, geometry.output_padding
    note = _KNOWN.get((kind, kernel, stride, padding, extra), "") if geometry.dilation == 1 else ""
    if note:
        return 0, list(_KNOWN).index((kind, kernel, stride, padding, extra)), note
    if kernel == stride and padding == extra == 0 and kernel > 1:
        return 1, 0, "patch, no overlap"
    if geometry.span < stride:
        return 6, 0, "some outputs see nothing" if kind == "tconv" else "skips input"
    if geometry.span % 2 and padding == geometry.span // 2 and extra in (0, stride - 1):
        return 2, 0, "half padding"
    if 2 * padding == geometry.span - stride and not extra:
        return 3, 0, "symmetric"
    if not padding and not extra:
        return 4, 0, "no padding"
    return 5, 0, ""
