"""The exact kernels against float64 arithmetic of the numbers that codes stand for."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.quantize.int8 import (
    FUSED,
    Dequantize,
    Epilogue,
    Int8AdaptiveAvgPool,
    Int8Add,
    Int8AvgPool,
    Int8Cat,
    Int8DynamicLinear,
    Int8Linear,
    Int8Lookup,
    Int8MaxPool,
    Int8Mul,
    Int8Resize,
    PoolGeometry,
    Quantize,
    find_kernels,
    range_affine,
)

U8, S8 = torch.uint8, torch.int8
ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "gelu": F.gelu,
}
CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
DTYPES = list(itertools.product((U8, S8), repeat=2))


def test_every_activation_is_tried():
    assert set(ACTIVATIONS) == set(FUSED)


CASES = [
    *({"num": num, "stride": stride, "padding": padding, "dilation": dilation, "size": 6}
      for num, stride, padding, dilation in itertools.product((1, 2, 3), (1, 2), (0, 1), (1, 2))),
    *({"channels": channels, "per_channel": per_channel}
      for channels, per_channel in itertools.product(((3, 5, 1), (6, 6, 6), (12, 8, 4), (8, 16, 8)), (True, False))),
    *({"activation": activation, "residual": residual, "num": num}
      for activation, residual, num in itertools.product(ACTIVATIONS, (True, False), (1, 2, 3))),
    *({"x_zero": x_zero, "y_zero": y_zero, "x_dtype": x_dtype, "y_dtype": y_dtype, "batch": 3, "bias": False}
      for x_zero, y_zero, (x_dtype, y_dtype) in itertools.product((0, 255), (0, 255), DTYPES)),
    {"y_dtype": None}, {"y_dtype": None, "residual": True, "activation": "relu6"},
]  # fmt: skip


@pytest.mark.parametrize("options", CASES, ids=str)
def test_convolutions(options, tools):
    case = tools.ConvCase(**options)
    layer = case.build()
    inputs = case.inputs(layer)
    layer.bind(tools.reference)
    weight = layer.weight.double() * layer.channel_scale().double().view(-1, *[1] * (case.num + 1))
    bias = None if layer.bias is None else layer.bias.double()
    places = case.stride, case.padding, case.dilation, case.channels[2]
    want = CONVOLVE[case.num](tools.real(inputs[0], case.x), weight, bias, *places)
    want = want + tools.real(inputs[1], case.added) if case.residual else want
    want = ACTIVATIONS[case.activation](want)
    got = layer(*inputs)
    if case.y is None:
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, want.float(), rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(got, tools.rounded(want, case.y))
        assert got.float().std() > 1  # it is no constant that is compared


@pytest.mark.parametrize("x_dtype", [U8, S8])
@pytest.mark.parametrize(("activation", "has_residual", "per_channel"), [
    *((name, residual, True) for name, residual in itertools.product(ACTIVATIONS, (True, False))), ("none", False, False)
])  # fmt: skip
def test_linear(activation, has_residual, per_channel, x_dtype, tools):
    x, y, added = tools.at(0.02, 90, x_dtype), tools.at(0.03, 50), tools.at(0.05, 200) if has_residual else None
    torch.manual_seed(0)
    layer = Int8Linear.from_float(
        nn.Linear(37, 11), x=x, epilogue=Epilogue(y, activation, added), is_per_channel=per_channel
    )
    layer.bind(tools.reference)
    inputs = [tools.codes_of(x, 5, 3, 37), *([tools.codes_of(added, 5, 3, 11)] if added else [])]
    weight = layer.weight.double() * layer.channel_scale().double()[:, None]
    want = F.linear(tools.real(inputs[0], x), weight, layer.bias.double())
    want = want + tools.real(inputs[1], added) if added else want
    assert torch.equal(layer(*inputs), tools.rounded(ACTIVATIONS[activation](want), y))


def test_sums_are_exact_where_float32_is_not(tools):
    x = tools.at(1.0, 0)
    weight = torch.full((1, 65000), 127, dtype=S8)
    weight[0, ::2] = -127
    weight[0, -1] = 126
    layer = Int8Linear(weight, torch.ones(1), None, x=x, epilogue=Epilogue(None))
    layer.bind(tools.reference)
    assert layer(torch.full((1, 65000), 255, dtype=U8)).item() == -255
    with pytest.raises(ValueError, match="overflow"):
        Int8Linear(torch.zeros(1, 66000, dtype=S8), torch.ones(1), None, x=x, epilogue=Epilogue(None))


def test_dynamic_products_quantize_their_input(tools):
    torch.manual_seed(0)
    layer = Int8DynamicLinear.from_weight(torch.randn(7, 33), torch.randn(7))
    layer.bind(tools.reference)
    x = torch.randn(4, 5, 33)
    affine = tools.at(*range_affine(x))
    weight = layer.weight.double() * layer.weight_scale.double()[:, None]
    steps = (x / affine.scale).round().double() + affine.zero_point
    want = F.linear((steps.clamp(0, 255) - affine.zero_point) * affine.scale, weight, layer.bias.double())
    torch.testing.assert_close(layer(x), want.float(), rtol=1e-6, atol=1e-6)
    assert layer(torch.zeros(0, 33)).shape == (0, 7)
    assert torch.equal(layer(torch.zeros(2, 33)), layer.bias.expand(2, 7))


TRANSPOSED = [
    *({"num": 1, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
      for kernel, stride, padding, dilation in itertools.product((1, 2, 3, 4, 5), (1, 2, 3), (0, 1, 2), (1, 2, 3))),
    *({"kernel": kernel, "stride": stride, "channels": channels, "per_channel": channels[2] == 1, "size": 4}
      for kernel, stride, channels in itertools.product((2, 3, 4), (1, 2, 3), ((3, 5, 1), (6, 6, 6), (8, 12, 4)))),
    *({"activation": activation, "bias": False, "x_dtype": S8, "y_dtype": S8, "kernel": 4, "stride": 2, "batch": 3}
      for activation in ACTIVATIONS),
    {"num": 3, "stride": 2, "size": 3, "channels": (4, 6, 2)}, {"num": 3, "kernel": 2, "stride": 2, "size": 3},
]  # fmt: skip


def padded_outputs(options):
    """The output paddings that torch takes and that leave something."""
    full = {"kernel": 3, "stride": 1, "padding": 1, "dilation": 1, "size": 7} | options
    left = (full["size"] - 1) * full["stride"] - 2 * full["padding"] + full["dilation"] * (full["kernel"] - 1)
    return [added for added in (0, 1) if added < max(full["stride"], full["dilation"]) and left + added >= 0]


@pytest.mark.parametrize(
    ("options", "output_padding"),
    [(options, added) for options in TRANSPOSED for added in padded_outputs(options)],
    ids=str,
)
def test_transposed_convolutions(options, output_padding, tools):
    case = tools.ConvCase(transposed=True, channels_last=True, **options)
    layer = case.build(output_padding=output_padding)
    torch.manual_seed(0)
    layer.phases.bind(tools.reference)
    (x,) = inputs = case.inputs(layer)
    _, out, groups = case.channels
    weight, bias = recover_weight(layer, case), layer.phases.bias
    bias = None if bias is None else bias.view(groups, -1, out // groups)[:, 0].flatten().double()
    places = case.stride, case.padding, output_padding, groups, case.dilation
    want = TRANSPOSE[case.num](tools.real(x, case.x), weight, bias, *places)
    assert torch.equal(layer(*inputs), tools.rounded(ACTIVATIONS[case.activation](want), case.y))


def recover_weight(layer, case):
    """The float64 weight of the transposed convolution: its responses to single numbers."""
    inner, (into, out, groups) = layer.phases, case.channels
    phases = len(inner.weight) // out
    real = inner.weight.double() * inner.channel_scale().double().view(-1, *[1] * (case.num + 1))
    real = real.view(groups, phases, out // groups, into // groups, *inner.weight.shape[2:])
    weight = torch.zeros(into, out // groups, *[case.kernel] * case.num, dtype=torch.float64)
    places = [{k: (r, tap) for r, tap, k in one.places} for one in layer.plan]
    for taps in itertools.product(range(case.kernel), repeat=case.num):
        pairs = [place[k] for place, k in zip(places, taps)]
        phase = 0
        for (r, _), one in zip(pairs, layer.plan):
            phase = phase * one.stride + r
        values = real[(slice(None), phase, slice(None), slice(None), *(tap for _, tap in pairs))]  # g, O/g, I/g
        weight[(slice(None), slice(None), *taps)] = values.transpose(1, 2).reshape(into, -1)
    return weight


def test_transposed_weights_are_those_of_the_float_layer(tools):
    case = tools.ConvCase(transposed=True, channels=(6, 4, 2), kernel=4, stride=2)
    torch.manual_seed(0)
    float_layer = nn.ConvTranspose2d(6, 4, 4, 2, padding=1, groups=2)
    layer = type(case.build()).from_float(float_layer, x=case.x, epilogue=Epilogue(case.y))
    worst = layer.phases.weight_scale.max() / 2
    assert (recover_weight(layer, case) - float_layer.weight).abs().max() <= worst * 1.001


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (2, 3, 1, 1), (3, 1, 5)])
def test_sums_and_products(dtypes, shape, tools):
    x, other = tools.at(0.03, 0, dtypes[0]), tools.at(0.05, 255, dtypes[1])
    first, second = tools.codes_of(x, 2, 3, 5, 5), tools.codes_of(other, *shape, seed=1)
    for layer, want in [
        (Int8Add(x, other, tools.at(0.07, 100)), tools.real(first, x) + tools.real(second, other)),
        (Int8Add(x, other, tools.at(0.03, 9, S8), activation="relu"), (tools.real(first, x) + tools.real(second, other)).relu()),
        (Int8Mul(x, other, tools.at(0.2, 200)), tools.real(first, x) * tools.real(second, other)),
    ]:  # fmt: skip
        layer.bind(tools.reference)
        assert torch.equal(layer(first, second), tools.rounded(want, layer.y))


def test_joins(tools):
    inputs, y = (tools.at(0.03, 0), tools.at(0.05, 255), tools.at(0.02, 7, S8)), tools.at(0.05, 255)
    codes = [tools.codes_of(affine, 2, place + 1, 4, seed=place) for place, affine in enumerate(inputs)]
    layer = Int8Cat(inputs, y, dim=1)
    layer.bind(tools.reference)
    want = torch.cat([tools.real(one, affine) for one, affine in zip(codes, inputs)], 1)
    assert torch.equal(layer(*codes), tools.rounded(want, y))


@pytest.mark.parametrize("x", [U8, S8])
def test_tables(x, tools):
    x, y = tools.at(0.04, 130, x), tools.at(0.01, 60)
    layer = Int8Lookup(torch.tanh, x, y)
    layer.bind(tools.reference)
    codes = tools.codes_of(x, 2, 3, 4, 5, channels_last=True)
    assert torch.equal(layer(codes), tools.rounded(tools.real(codes, x).tanh(), y))


def test_entering_and_leaving_int8(tools):
    affine, x = tools.at(0.03, 128), torch.randn(2, 3, 4, 4)
    enter, leave = Quantize(affine), Dequantize(affine)
    enter.bind(tools.reference)
    leave.bind(tools.reference)
    codes = enter(x)
    assert torch.equal(codes, tools.rounded(x.double(), affine))
    assert torch.equal(leave(codes), tools.real(codes, affine).float())


POOLS = {1: (F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d), 2: (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d),
         3: (F.max_pool3d, F.avg_pool3d, F.adaptive_avg_pool3d)}  # fmt: skip
WINDOWS = list(itertools.product((2, 3), (1, 2, 3), (0, 1), (False, True)))


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil_mode"), WINDOWS)
@pytest.mark.parametrize("dtype", [U8, S8])
def test_pools(num, kernel, stride, padding, ceil_mode, dtype, tools):
    x, y = tools.at(0.03, 50, dtype), tools.at(0.02, 60)
    geometry = PoolGeometry((kernel,) * num, (stride,) * num, (padding,) * num, ceil_mode)
    codes = tools.codes_of(x, 2, 5, *[6] * num, channels_last=True)
    largest, average = POOLS[num][:2]
    layer = Int8MaxPool(x, geometry)
    layer.bind(tools.reference)
    assert torch.equal(layer(codes), largest(codes.double(), kernel, stride, padding, ceil_mode=ceil_mode).to(dtype))
    layer = Int8MaxPool(x, geometry, dilation=(2,) * num)
    layer.bind(tools.reference)
    assert torch.equal(layer(codes), largest(codes.double(), kernel, stride, padding, 2, ceil_mode).to(dtype))
    for count_include_pad in (True, False):
        layer = Int8AvgPool(x, y, geometry, count_include_pad=count_include_pad)
        layer.bind(tools.reference)
        want = average(tools.real(codes, x), kernel, stride, padding, ceil_mode, count_include_pad)
        assert torch.equal(layer(codes), tools.rounded(want, y))


@pytest.mark.parametrize(("num", "size"), [(1, (1,)), (2, (1, 1)), (2, (3, 2)), (3, (2, 2, 2))])
def test_adaptive_pools(num, size, tools):
    x, y = tools.at(0.03, 255), tools.at(0.02, 255)
    layer = Int8AdaptiveAvgPool(x, y, size)
    layer.bind(tools.reference)
    codes = tools.codes_of(x, 2, 5, *[6] * num)
    assert torch.equal(layer(codes), tools.rounded(POOLS[num][2](tools.real(codes, x), size), y))


RESIZED = [
    {"size": (9, 4), "mode": "bilinear"}, {"size": (9, 4), "mode": "bilinear", "align_corners": True}, {"size": (3, 2), "mode": "area"},
    {"scale_factor": 2, "mode": "bilinear"}, {"scale_factor": (0.5, 3.0), "mode": "bilinear", "antialias": True},
    {"size": 11, "mode": "bicubic"},
]  # fmt: skip


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("options", RESIZED, ids=str)
def test_resized_images(options, dtypes, tools):
    x, y = tools.at(0.03, 20, dtypes[0]), tools.at(0.029, 100, dtypes[1])
    codes = tools.codes_of(x, 2, 3, 6, 6, channels_last=True)
    want = tools.rounded(F.interpolate(tools.real(codes, x), **options), y)
    layer = Int8Resize(x, y, options.get("size"), {key: value for key, value in options.items() if key != "size"})
    layer.bind(tools.reference)
    assert torch.equal(layer(codes), want) and len(want.unique()) > 10
    if "size" in options:
        layer.size = None
        assert torch.equal(layer(codes, options["size"]), want)


def test_numbers_half_way_between_places_go_to_even_codes(tools):
    x = tools.at(0.1, 0)
    for kernels in ("reference", "plain"):
        layer = Int8Resize(x, x, (1, 2), {"mode": "bilinear"})
        layer.bind(find_kernels(kernels))
        assert layer(torch.tensor([[[[0, 1, 2, 3]]]], dtype=U8)).tolist() == [[[[0, 2]]]]


def test_means_half_way_go_to_even_codes(tools):
    x = tools.at(0.1, 0)
    layer = Int8AvgPool(x, x, PoolGeometry((2,), (2,), (0,)))
    layer.bind(tools.reference)
    assert layer(torch.tensor([[[0, 1, 1, 2, 4, 5]]], dtype=U8)).tolist() == [[[0, 2, 4]]]


def test_a_large_image_is_pooled_channels_last(tools):
    """torch's own pool of bytes raises here: it counts places in a byte."""
    x = tools.at(0.1, 0)
    layer = Int8MaxPool(x, PoolGeometry((3, 3), (2, 2), (1, 1)))
    layer.bind(tools.reference)
    codes = tools.codes_of(x, 1, 4, 40, 40, channels_last=True)
    got = layer(codes)
    assert torch.equal(got, F.max_pool2d(codes.float(), 3, 2, 1).to(U8))
    assert got.is_contiguous(memory_format=torch.channels_last)
