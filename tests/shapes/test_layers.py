"""Layers with any options: the torch line that dlkit prints builds a module with the same sizes and costs."""

from math import prod

import pytest
import torch
import torch.nn.functional as F  # noqa: F401  (torch lines use it)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dlkit.shapes import (
    AdaptivePool,
    Conv,
    ConvTranspose,
    Flatten,
    Fold,
    Layer,
    Linear,
    Norm,
    PixelShuffle,
    PixelUnshuffle,
    Pointwise,
    Pool,
    Shape,
    ShapeError,
    Unflatten,
    Unfold,
    Upsample,
)

QUICK = settings(max_examples=150, deadline=None)


def numbers(dims: int, least: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(least, most)] * dims)


def torch_module(layer: Layer) -> nn.Module:
    """The module that the printed line builds."""
    code = layer.torch_code()
    with torch.device("meta"):
        if code.startswith("F."):
            return _Function(code)
        return eval(code)  # type: ignore[no-any-return]


class _Function(nn.Module):
    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return eval(self.code)  # type: ignore[no-any-return]


def ours(layer: Layer, shape: Shape) -> tuple[Shape, int, int] | None:
    try:
        fitted = layer.fit(shape)
        return fitted.out_shape(shape), fitted.num_parameters(), fitted.num_macs(shape)
    except ShapeError:
        return None


def theirs(layer: Layer, shape: Shape, *, device: str = "meta") -> tuple[Shape, int, int] | None:
    try:
        module = torch_module(layer.fit(shape) if not isinstance(layer, Linear) else layer)
        out = module(torch.zeros(1, *shape, device=device))
        counter = FlopCounterMode(display=False)  # counted apart: its decompositions lose some of torch's refusals
        with counter:
            module(torch.zeros(1, *shape, device=device))
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        return None
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return tuple(out.shape[1:]), parameters, counter.get_total_flops() // 2


@st.composite
def convolutions(draw: st.DrawFn, transposed: bool) -> tuple[Layer, Shape]:
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shape = (groups * draw(st.integers(1, 3)), *draw(numbers(dims, 1, 12)))
    axes = [draw(numbers(dims, 1, most)) for most in (5, 3, 3)]
    padding = draw(numbers(dims, 0, 3))
    options = {"groups": groups, "out_channels": groups * draw(st.integers(1, 3)), "bias": draw(st.booleans())}
    if transposed:
        return ConvTranspose(*axes, padding=padding, output_padding=draw(numbers(dims, 0, 3)), **options), shape
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    if max(axes[1]) == 1 and draw(st.booleans()):
        return Conv(*axes, padding=draw(st.sampled_from(["same", "valid"])), padding_mode=mode, **options), shape
    return Conv(*axes, padding=padding, padding_mode=mode, **options), shape


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@QUICK
@given(convolutions(transposed=False))
def test_convolutions_equal_torch(case: tuple[Layer, Shape]) -> None:
    assert ours(*case) == theirs(*case)


@QUICK
@given(convolutions(transposed=True))
def test_transposed_convolutions_equal_torch(case: tuple[Layer, Shape]) -> None:
    answer = theirs(*case)
    # an empty output passes on some backends and is refused by others; we refuse it
    assert ours(*case) == (answer if answer and prod(answer[0]) else None)


@st.composite
def pools(draw: st.DrawFn) -> tuple[Layer, Shape]:
    dims, operation = draw(st.integers(1, 3)), draw(st.sampled_from(["max", "avg", "lp"]))
    kernel, stride = draw(numbers(dims, 1, 5)), draw(numbers(dims, 1, 4))
    padding = (0,) * dims if operation == "lp" else draw(numbers(dims, 0, 3))
    dilation = draw(numbers(dims, 1, 3)) if operation == "max" else (1,) * dims
    layer = Pool(operation, kernel, stride, padding, dilation, ceil_mode=draw(st.booleans()))
    return layer, (2, *draw(numbers(dims, 1, 12)))


@QUICK
@given(pools())
def test_pools_equal_torch(case: tuple[Layer, Shape]) -> None:
    assert ours(*case) == theirs(*case)


@st.composite
def interpolations(draw: st.DrawFn) -> tuple[Layer, Shape]:
    modes = {
        1: ["nearest", "nearest-exact", "area", "linear"],
        2: ["nearest", "nearest-exact", "area", "bilinear", "bicubic", "lanczos"],
        3: ["nearest", "nearest-exact", "area", "trilinear"],
    }
    dims = draw(st.integers(1, 3))
    mode = draw(st.sampled_from(modes[dims]))
    antialias = mode == "lanczos" or (mode in ("bilinear", "bicubic") and draw(st.booleans()))
    align = mode.endswith("linear") and draw(st.booleans())
    shape = (2, *draw(numbers(dims, 1, 30)))
    scale = st.one_of(st.floats(0.05, 4), st.sampled_from([0.1, 0.3, 1 / 3, 0.7, 1.5, 2.0, 3.0, 120 / 88]))
    size = draw(st.none() | numbers(dims, 1, 40))
    scales = None if size else draw(st.tuples(*[scale] * dims))
    return Upsample(dims, size, scales, mode, align_corners=align, antialias=antialias), shape


@QUICK
@given(interpolations())
def test_interpolation_equals_torch(case: tuple[Layer, Shape]) -> None:
    layer, shape = case
    # on the CPU, because meta lets some sizes of 0 pass that real devices refuse
    assert ours(layer, shape) == theirs(layer, shape, device="cpu")


@QUICK
@given(numbers(2, 1, 14), st.integers(1, 40), st.integers(1, 5), st.booleans())
def test_pixel_shuffles_equal_torch(sizes: tuple[int, ...], channels: int, factor: int, down: bool) -> None:
    layer = PixelUnshuffle(factor) if down else PixelShuffle(factor)
    assert ours(layer, (channels, *sizes)) == theirs(layer, (channels, *sizes))


@QUICK
@given(numbers(2, 1, 9), st.tuples(numbers(2, 1, 4), numbers(2, 1, 3), numbers(2, 0, 2), numbers(2, 1, 2)))
def test_unfold_and_fold_equal_torch(sizes: tuple[int, ...], geometry: tuple[tuple[int, ...], ...]) -> None:
    unfold = Unfold(*geometry)
    assert ours(unfold, (2, *sizes)) == theirs(unfold, (2, *sizes))
    shape = (2 * prod(geometry[0]), 12)
    for layer in (Fold(sizes, *geometry), Fold((6, 5), *geometry)):
        assert ours(layer, shape) == theirs(layer, shape)
    if columns := ours(unfold, (2, *sizes)):
        assert Fold(sizes, *geometry).out_shape(columns[0]) == (2, *sizes)


@QUICK
@given(st.integers(1, 3), st.data())
def test_adaptive_pools_equal_torch(dims: int, data: st.DataObject) -> None:
    sizes = data.draw(st.tuples(*[st.none() | st.integers(0, 9) if dims > 1 else st.integers(0, 9)] * dims))
    shape = (2, *data.draw(numbers(dims, 1, 12)))
    layer = AdaptivePool(sizes, data.draw(st.sampled_from(["avg", "max"])))
    assert ours(layer, shape) == theirs(layer, shape)


SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@QUICK
@given(SHAPES, st.integers(1, 6), st.none() | st.integers(1, 6), st.booleans())
def test_linear_equals_torch(shape: Shape, out: int, features: int | None, bias: bool) -> None:
    layer = Linear(out, features, bias)
    assert ours(layer, shape) == theirs(layer if features else layer.fit(shape), shape)


@QUICK
@given(SHAPES, st.integers(1, 5), st.integers(-4, 5))
def test_flatten_equals_torch(shape: Shape, start: int, end: int) -> None:
    layer = Flatten(start, end)
    assert ours(layer, shape) == theirs(layer, shape)


@QUICK
@given(SHAPES, st.integers(1, 30))
def test_unflatten_equals_torch(shape: Shape, features: int) -> None:
    assert ours(Unflatten(shape), (prod(shape),)) == theirs(Unflatten(shape), (prod(shape),))
    if features != prod(shape):
        assert ours(Unflatten(shape), (features,)) is None


@QUICK
@given(st.sampled_from(Norm.SORTS), st.lists(st.integers(2, 6), min_size=2, max_size=4).map(tuple), st.integers(1, 4))
def test_norms_equal_torch(sort: str, shape: Shape, groups: int) -> None:
    if sort in ("layer", "rms"):
        layer = Norm(sort, normalized_shape=shape[-min(groups, len(shape)) :])
    else:
        layer = Norm(sort, num_groups=groups)
    mine = ours(layer, shape)
    if mine is None:
        with pytest.raises(ValueError, match="divisible"):
            nn.GroupNorm(groups, shape[0])
    else:
        module = torch_module(layer.fit(shape)).eval() if sort == "batch" else torch_module(layer.fit(shape))
        assert mine[0] == tuple(module(torch.zeros(1, *shape, device="meta")).shape[1:])
        assert mine[1] == sum(parameter.numel() for parameter in module.parameters())


def test_instance_norm_refuses_one_position_as_torch_does() -> None:
    with pytest.raises(ShapeError, match="more than one position"):
        Norm("instance").out_shape((4, 1, 1))
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        nn.InstanceNorm2d(4)(torch.zeros(1, 4, 1, 1))


def test_pointwise_layers_keep_shape_and_count_their_parameters() -> None:
    assert Pointwise("nn.PReLU()", 1).num_parameters() == sum(p.numel() for p in nn.PReLU().parameters())
    assert Pointwise("nn.ReLU()").out_shape((3, 4)) == (3, 4)
