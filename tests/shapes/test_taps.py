"""Receptive fields against what gradients really touch, and against published tables."""

from fractions import Fraction
from functools import reduce

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from dlkit.shapes import (
    IDENTITY,
    AdaptivePool,
    Conv,
    ConvTranspose,
    Layer,
    PixelShuffle,
    Pool,
    ReceptiveField,
    Upsample,
    compose,
    union,
)


def one_axis(kind: str, kernel: int, stride: int, padding: int, dilation: int) -> tuple[Layer, nn.Module]:
    """A layer along one axis and its torch module with positive weights, so that no gradient cancels."""
    if kind == "pool":
        padding, module = min(padding, kernel // 2), nn.AvgPool1d(kernel, stride, min(padding, kernel // 2))
        return Pool("avg", (kernel,), (stride,), (padding,), (1,)), module
    if kind == "up":
        return Upsample(1, scale=(float(stride),)), nn.Upsample(scale_factor=stride)
    if kind == "linear_up":
        return Upsample(1, scale=(float(stride),), mode="linear"), nn.Upsample(scale_factor=stride, mode="linear")
    if kind == "tconv":
        module = nn.ConvTranspose1d(1, 1, kernel, stride, padding, dilation=dilation, bias=False)
        layer: Layer = ConvTranspose((kernel,), (stride,), (dilation,), padding=(padding,), output_padding=(0,))
    else:
        module = nn.Conv1d(1, 1, kernel, stride, padding, dilation, bias=False)
        layer = Conv((kernel,), (stride,), (dilation,), padding=(padding,))
    nn.init.ones_(module.weight)
    return layer, module


def touched(module: nn.Module, size: int, index: int) -> tuple[int, int] | None:
    x = torch.ones(1, 1, size, dtype=torch.float64, requires_grad=True)
    module(x)[0, 0, index].backward()
    positions = x.grad[0, 0].nonzero()
    return (int(positions.min()), int(positions.max())) if len(positions) else None


LAYERS = st.tuples(
    st.sampled_from(["conv", "conv", "pool", "up", "linear_up", "tconv"]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 3),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(LAYERS, min_size=1, max_size=3))
def test_chains_see_what_gradients_touch(specs: list[tuple[str, int, int, int, int]]) -> None:
    size, shape, field, modules = 300, (1, 300), IDENTITY, []
    for spec in specs:
        layer, module = one_axis(*spec)
        field = compose(layer.taps_per_axis(shape)[0], field)
        shape = layer.out_shape(shape)
        modules.append(module.double())
    network = nn.Sequential(*modules)
    assume(shape[1] >= 20)  # outputs away from borders, where zero padding cuts the window
    for index in range(shape[1] // 2 - 3, shape[1] // 2 + 4):
        low, high = field.at(index)
        assert touched(network, size, index) == ((low, high) if low <= high else None)


@pytest.mark.parametrize(("size", "out"), [(7, 3), (10, 4), (5, 8), (224, 7), (13, 1), (6, 6)])
def test_adaptive_windows_are_those_of_torch(size: int, out: int) -> None:
    windows = AdaptivePool((out,)).windows(0, size)
    assert [touched(nn.AdaptiveAvgPool1d(out), size, index) for index in range(out)] == windows


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
@pytest.mark.parametrize(("size", "out"), [(12, 18), (18, 12), (20, 7), (7, 20)])
def test_interpolation_to_a_size_sees_what_gradients_touch(mode: str, size: int, out: int) -> None:
    field = compose(Upsample(1, size=(out,), mode=mode).taps(0, size), IDENTITY)
    module = nn.Upsample(size=out, mode=mode)
    for index in range(2, out - 2):
        assert touched(module, size, index) == field.at(index)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [1.3, 0.7, 2.5, 1.36])
def test_interpolation_by_a_scale_steps_by_the_scale_and_not_by_the_sizes(mode: str, scale: float) -> None:
    size = 33
    layer = Upsample(1, scale=(scale,), mode=mode)
    field = compose(layer.taps(0, size), IDENTITY)
    module = nn.Upsample(scale_factor=scale, mode=mode)
    for index in range(2, layer.out_size(0, size) - 2):
        assert touched(module, size, index) == field.at(index)


@pytest.mark.parametrize(("size", "scale"), [(5, 2.0), (7, 3.0), (9, 0.5), (12, 1.5), (1, 4.0), (6, 0.2), (33, 2.0)])
def test_aligned_corners_step_from_the_first_position_to_the_last(size: int, scale: float) -> None:
    """A scale only sets the size of the output then; the jump is (in - 1) / (out - 1)."""
    layer = Upsample(1, scale=(scale,), mode="linear", align_corners=True)
    out = layer.out_size(0, size)
    field = compose(layer.taps(0, size), IDENTITY)
    assert field.jump == (Fraction(size - 1, out - 1) if out > 1 else 0)
    for options in ({"scale_factor": scale}, {"size": out}):
        module = nn.Upsample(**options, mode="linear", align_corners=True)
        seen = [touched(module, size, index) for index in range(out)]
        # rounding may touch a neighbour whose weight is next to nothing, where the exact position is a whole one
        assert all(
            low >= span[0] - 1 and high <= span[1] + 1
            for (low, high), span in zip(seen, map(field.at, range(out)), strict=True)
        )
        assert (seen[0][0], seen[-1][1]) == (0, field.at(out - 1)[1])


def test_branches_join_to_their_hull() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Conv1d(1, 1, 7, 2, 3, bias=False)
            self.down, self.up = nn.AvgPool1d(4, 4), nn.Upsample(scale_factor=2)
            nn.init.ones_(self.wide.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.wide(x) + self.up(self.down(x))

    wide = compose(Conv((7,), (2,), (1,), padding=(3,)).taps(0, 64), IDENTITY)
    down = compose(Pool("avg", (4,), (4,), (0,), (1,)).taps(0, 64), IDENTITY)
    both = union([wide, compose(Upsample(1, scale=(2.0,)).taps(0, 16), down)], size=32)
    assert [touched(Branches().double(), 64, index) for index in range(4, 28)] == [both.at(i) for i in range(4, 28)]
    assert both.jump == 2


def test_branches_of_different_jump_drift_apart() -> None:
    fast, slow = ReceptiveField(((0, 0),), 2), ReceptiveField(((0, 0),), 1)
    both = union([fast, slow], size=8)
    assert both.at(0) == (0, 0)
    assert both.at(7) == (7, 14)


def test_a_pixel_shuffle_sees_one_position() -> None:
    field = compose(PixelShuffle(2).taps(0, 8), compose(Conv((3,), (1,), (1,), padding=(1,)).taps(0, 8), IDENTITY))
    assert (field.size, field.jump) == (3, Fraction(1, 2))


def test_a_global_pool_sees_all() -> None:
    field = compose(AdaptivePool((1,)).taps(0, 8), compose(Conv((3,), (2,), (1,), padding=(1,)).taps(0, 16), IDENTITY))
    assert (field.spans, field.jump) == (((-1, 15),), 16)


def conv_field(*layers: tuple[int, int]) -> ReceptiveField:
    """Receptive field of (kernel, stride) layers with half padding."""
    steps = [Conv((kernel,), (stride,), (1,), padding=(kernel // 2,)).taps(0, 224) for kernel, stride in layers]
    return reduce(lambda field, step: compose(step, field), steps, IDENTITY)


# google's receptive_field package, RECEPTIVE_FIELD_TABLE.md
POOL, CONV = (2, 2), (3, 1)
VGG = [CONV, CONV, POOL, CONV, CONV, POOL, *[CONV] * 3, POOL, *[CONV] * 3, POOL, *[CONV] * 3, POOL]
ALEXNET = [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)]


@pytest.mark.parametrize(("layers", "size", "jump"), [(VGG[:15], 132, 16), (VGG[:16], 164, 16), (VGG, 212, 32)])
def test_vgg16_equals_the_published_table(layers: list[tuple[int, int]], size: int, jump: int) -> None:
    field = conv_field(*layers)
    assert (field.size, field.jump) == (size, jump)


def test_alexnet_equals_the_published_table() -> None:
    sizes = [conv_field(*ALEXNET[:depth]).size for depth in range(1, 9)]
    assert sizes == [11, 19, 51, 67, 99, 131, 163, 195]


def test_resnet50_blocks_equal_the_published_table() -> None:
    # slim's ResNet-v1 strides at the end of a block, in the last unit's 3x3
    field, published = [(7, 2), (3, 2)], []
    for units, last_stride in ((3, 2), (4, 2), (6, 2), (3, 1)):
        for unit in range(units):
            field += [(1, 1), (3, last_stride if unit == units - 1 else 1), (1, 1)]
        published.append(conv_field(*field).size)
    assert published == [35, 99, 291, 483]


def test_mobilenet_equals_the_published_table() -> None:
    strides = [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    assert conv_field(*[(3, stride) for stride in strides]).size == 315
