"""Every adapter that runs here against the exact kernels, over a grid.

Kernels round products in float32, so that a number near the middle between two codes may become its neighbour: one step, seldom.
QNNPACK also rounds biases, so that it does so more often. Weights take the bits that the kernels bear on this CPU.
"""

import itertools
import random
import warnings

import pytest
import torch
from torch import nn

from dlkit.quantize.int8 import (
    Affine,
    Dequantize,
    Epilogue,
    Int8AdaptiveAvgPool,
    Int8Add,
    Int8AvgPool,
    Int8Cat,
    Int8Conv2d,
    Int8DynamicLinear,
    Int8Linear,
    Int8Lookup,
    Int8MaxPool,
    Int8Mul,
    Int8Resize,
    PoolGeometry,
    Quantize,
    available_kernels,
    bind_kernels,
    find_kernels,
    range_affine,
    weight_bits,
)

U8, S8 = torch.uint8, torch.int8
FAST = [kernels.name for kernels in available_kernels() if kernels.name not in ("reference", "plain")]
# of codes that are one step off; many are near a middle where a window lies in the padding and only the residual is rescaled.
# QNNPACK rounds a bias to whole steps, which moves a channel that is constant as a whole.
LARGEST_SHARE = {"onednn": 0.02, "fbgemm": 0.01, "qnnpack": 0.25, "plain": 0.01}
CHANNELS = ((3, 5, 1), (8, 16, 1), (7, 14, 7), (6, 6, 6), (16, 16, 16), (12, 8, 4), (33, 65, 1))
EVERYTHING = {
    "num": (1, 2, 3),
    "batch": (1, 3),
    "channels": CHANNELS,
    "kernel": (1, 2, 3, 5),
    "stride": (1, 2),
    "padding": (0, 1, 2),
    "dilation": (1, 2),
    "activation": ("none", "relu", "relu6", "hardswish", "silu", "gelu"),
    "x_zero": (0, 77, 255),
    "y_zero": (0, 100, 255),
    "x_dtype": (U8, S8),
    "y_dtype": (U8, S8, None),
    "per_channel": (True, False),
    "residual": (False, True),
    "bias": (True, False),
    "channels_last": (True, False),
}


def sample(count, seed, **fixed):
    """Random points of the grid; torch refuses those whose window is larger than the padded image."""
    choose = random.Random(seed)
    found = []
    while len(found) < count:
        options = {name: choose.choice(values) for name, values in EVERYTHING.items()} | fixed
        options["size"] = {1: 11, 2: 9, 3: 5}[options["num"]]
        if options["size"] + 2 * options["padding"] > options["dilation"] * (options["kernel"] - 1):
            found.append(options)
    return found


PLAIN = {"activation": "none", "residual": False, "x_dtype": U8, "y_dtype": U8, "per_channel": True}
QUICK = [
    *({**options, **PLAIN} for options in sample(60, 1)),  # what every adapter takes
    *({**options, **PLAIN, "activation": name} for options in sample(8, 2) for name in ("relu", "relu6")),
    *({**options, **PLAIN, "num": 2, "x_zero": x, "y_zero": y}
      for options in sample(4, 3) for x, y in itertools.product((0, 255), (0, 255))),
    *sample(60, 4),
    *sample(20, 5, residual=True, y_dtype=U8, num=2),
]  # fmt: skip


def compare(kernels, case):
    layer = case.build(weight_bits(kernels.name))
    if not kernels.supports(layer):
        return None
    inputs = case.inputs(layer)
    layer.bind(find_kernels("reference"))
    exact = layer(*inputs)
    layer.bind(kernels)
    before = [x.clone() for x in inputs]
    check(layer(*inputs), exact, kernels.name)
    assert all(torch.equal(x, old) for x, old in zip(inputs, before)), "a kernel wrote into its input"
    return layer


def check(got, exact, name):
    assert got.dtype == exact.dtype and got.shape == exact.shape
    if got.dtype == torch.float32:
        torch.testing.assert_close(got, exact, rtol=1e-5, atol=1e-5)
    else:
        steps = (got.int() - exact.int()).abs()
        assert steps.max() <= 1
        assert (steps > 0).sum() <= max(LARGEST_SHARE[name] * steps.numel(), 1)


@pytest.mark.parametrize("name", FAST)
def test_convolutions(name, tools):
    kernels = find_kernels(name)
    compared = sum(compare(kernels, tools.ConvCase(**options)) is not None for options in QUICK)
    assert compared >= 90  # of 172; oneDNN takes all


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("kernel", "padding"), [(1, 1), (2, 2), (3, 4)])
def test_windows_in_the_padding(name, channels, kernel, padding, tools):
    options = {"channels": channels, "kernel": kernel, "padding": padding, "x_zero": 128}
    assert compare(find_kernels(name), tools.ConvCase(**options)) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("num", [1, 2, 3])
def test_more_convolutions(name, num, tools):
    kernels = find_kernels(name)
    for options in sample(300, num, **PLAIN, num=num) + sample(300, num, num=num):
        compare(kernels, tools.ConvCase(**options))


def test_onednn_takes_every_convolution(tools):
    kernels = find_kernels("onednn")
    assert all(kernels.supports(tools.ConvCase(**options).build()) for options in sample(100, 9))


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("size", [1, 4, 9])
def test_a_window_as_large_as_the_image(name, size, tools):
    case = tools.ConvCase(kernel=size, size=size, padding=0, channels=(5, 7, 1))
    assert compare(find_kernels(name), case) is not None


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_view_with_gaps(name, num, tools):
    case = tools.ConvCase(num=num, channels=(5, 7, 1))
    layer = case.build(weight_bits(name))
    x = tools.codes_of(case.x, 2, 10, *[12] * num)[:, ::2].narrow(2, 3, 7)[..., ::2]
    layer.bind(find_kernels("reference"))
    exact = layer(x.contiguous())
    layer.bind(find_kernels(name))
    check(layer(x), exact, name)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("expected", [None, (1, 16, 9, 9), (4, 16, 3, 3)])
def test_the_expected_shape_changes_no_number(name, expected, tools):
    case = tools.ConvCase(channels=(16, 32, 1), size=9, batch=2)
    layer = case.build(weight_bits(name))
    layer.expected_shape = expected
    inputs = case.inputs(layer)
    layer.bind(find_kernels("reference"))
    exact = layer(*inputs)
    layer.bind(find_kernels(name))
    check(layer(*inputs), exact, name)


@pytest.mark.parametrize("name", FAST)
def test_linear(name, tools):
    kernels, compared = find_kernels(name), 0
    grid = itertools.product(
        ((4, 19, 7), (1, 64, 33), (3, 1, 1)), ("none", "relu", "relu6", "hardswish", "silu", "gelu"),
        (U8, S8), (U8, S8, None), (0, 255), (True, False), (False, True),
    )  # fmt: skip
    options = random.Random(0).sample(list(grid), 300)
    for (batch, into, out), activation, x_dtype, y_dtype, zero, per_channel, has_residual in options:
        x, y = tools.at(0.02, zero, x_dtype), None if y_dtype is None else tools.at(0.03, 255 - zero, y_dtype)
        added = tools.at(0.05, zero, y_dtype or U8) if has_residual else None
        torch.manual_seed(into)
        layer = Int8Linear.from_float(
            nn.Linear(into, out, bias=per_channel),
            x=x,
            epilogue=Epilogue(y, activation, added),
            bits=weight_bits(name),
            is_per_channel=per_channel,
        )
        if not kernels.supports(layer):
            continue
        inputs = [tools.codes_of(x, 2, batch, into)]
        inputs += [tools.codes_of(added, 2, batch, out, seed=1)] if has_residual else []
        before = [one.clone() for one in inputs]
        layer.bind(find_kernels("reference"))
        exact = layer(*inputs)
        layer.bind(kernels)
        check(layer(*inputs), exact, name)
        assert all(torch.equal(one, old) for one, old in zip(inputs, before))
        compared += 1
    assert compared >= 30  # oneDNN takes all 300


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("shape", [(1, 33), (5, 64), (2, 3, 7), (0, 33), (19,)])
def test_dynamic_products(name, shape):
    """oneDNN gets our codes; the other engines quantize by themselves, and differ by a step of the input here and there."""
    torch.manual_seed(0)
    layer = Int8DynamicLinear.from_weight(torch.randn(7, shape[-1]), torch.randn(7), bits=weight_bits(name))
    x = torch.randn(shape) + 0.5
    layer.bind(find_kernels("reference"))
    exact = layer(x)
    layer.bind(find_kernels(name))
    got = layer(x)
    if name == "onednn" or not x.numel():
        torch.testing.assert_close(got, exact, rtol=1e-5, atol=1e-5)
    else:
        step = range_affine(x)[0] * layer.weight.abs().max() * layer.weight_scale.max()
        assert (got - exact).abs().max() <= 2.5 * step


@pytest.mark.parametrize("residual", [False, True])
def test_a_freed_residual_may_be_overwritten(residual, tools):
    case = tools.ConvCase(residual=True, channels_last=True, activation="relu")
    layer = case.build(weight_bits("onednn"))
    inputs = case.inputs(layer)
    layer.bind(find_kernels("reference"))
    exact = layer(*inputs)
    layer.frees_residual = residual
    layer.bind(find_kernels("onednn"))
    before = inputs[1].clone()
    check(layer(*inputs), exact, "onednn")
    assert torch.equal(inputs[1], before) != residual


DTYPES = list(itertools.product((U8, S8), repeat=2))


@pytest.mark.parametrize("dtypes", DTYPES)
def test_plain_arithmetic(dtypes, tools):
    x, other = tools.at(0.03, 0, dtypes[0]), tools.at(0.05, 255, dtypes[1])
    first = tools.codes_of(x, 2, 16, 9, 9, channels_last=True)
    second = tools.codes_of(other, 2, 16, 9, 9, seed=1)
    geometry = PoolGeometry((3, 3), (2, 2), (1, 1))
    layers = [
        (Int8Add(x, other, tools.at(0.07, 100)), (first, second)),
        (Int8Add(x, other, tools.at(0.07, 9, S8), activation="relu"), (first, second)),
        (Int8Mul(x, other, tools.at(0.2, 200)), (first, second)),
        (Int8Mul(x, other, tools.at(0.2, 200)), (first, second[:, :, :1, :1])),
        (Int8Cat((x, other), x, dim=1), (first, second)),
        (Int8Cat((x, other), tools.at(0.04, 9, S8), dim=-1), (first, second)),
        (Int8Lookup(torch.sigmoid, x, other), (first,)),
        (Int8MaxPool(x, geometry), (first,)),
        (Int8AvgPool(x, other, geometry), (first,)),
        (Int8AvgPool(x, x, geometry, count_include_pad=False), (first,)),
        (Int8AdaptiveAvgPool(x, x, (1, 1)), (first,)),
        (Int8AdaptiveAvgPool(x, other, (4, 3)), (first,)),
        (Int8Resize(x, other, (20, 5), {"mode": "bilinear"}), (first,)),
        (Int8Resize(x, x, options={"scale_factor": 2, "mode": "bilinear"}), (first[:, ::2, 1:],)),
        (Quantize(x), (torch.randn(2, 16, 9, 9),)),
        (Dequantize(x), (first,)),
        (Int8Lookup(torch.sigmoid, x, other), (first[:, ::2, 1:],)),
        (Int8Lookup(torch.sigmoid, x, other), (first[0],)),
        (Int8MaxPool(x, geometry), (first[:, ::2, 1:],)),
        (Int8Add(x, other, tools.at(0.07, 100)), (first[:, ::2, 1:], second[:, ::2, 1:])),
    ]
    for layer, inputs in layers:
        assert find_kernels("plain").supports(layer)
        layer.bind(find_kernels("reference"))
        exact = layer(*inputs)
        layer.bind(find_kernels("plain"))
        check(layer(*inputs), exact, "plain")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_enter_int8(dtype, tools):
    layer, x = Quantize(tools.at(0.03, 100)), torch.randn(50).to(dtype)
    layer.bind(find_kernels("reference"))
    exact = layer(x)
    layer.bind(find_kernels("plain"))
    check(layer(x), exact, "plain")


@pytest.mark.parametrize("dtype", [U8, S8])
@pytest.mark.parametrize("place", [10, 11])
def test_halves_are_rounded_like_the_reference(dtype, place, tools):
    affine = tools.at(0.25, place, dtype)
    x = torch.arange(-600, 600) * 0.125
    outputs = []
    for name in ("reference", "plain"):
        layer = Quantize(affine)
        layer.bind(find_kernels(name))
        outputs.append(layer(x))
    assert torch.equal(*outputs)
    assert len(outputs[0].unique()) == 256


@pytest.mark.parametrize("dtypes", DTYPES)
def test_large_tables_are_read_in_pairs(dtypes, tools):
    x, y = tools.at(0.03, 20, dtypes[0]), tools.at(0.02, 100, dtypes[1])
    layer = Int8Lookup(lambda values: values * 1.01 - 0.2, x, y)
    layer.bind(find_kernels("plain"))
    codes = tools.codes_of(x, 1, 64, 32, 33, channels_last=True)
    want = tools.rounded(tools.real(codes, x) * 1.01 - 0.2, y)
    for view in (slice(None), slice(1, None), slice(0, 63)):  # an odd start and an odd end, too
        assert torch.equal(layer(codes[:, view]), want[:, view])
    flat = codes.contiguous().flatten()
    assert torch.equal(layer(flat[1:-1]), want.contiguous().flatten()[1:-1])


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1), (3, 2, 0), (5, 2, 2), (4, 2, 1)]
)
def test_a_traced_pool_takes_other_sizes(kernel, stride, padding, tools):
    affine = tools.at(0.1, 0)
    layer = Int8MaxPool(affine, PoolGeometry((kernel,) * 2, (stride,) * 2, (padding,) * 2))
    layer.bind(find_kernels("plain"))
    with warnings.catch_warnings():  # torch.jit is deprecated itself
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer.eval(), tools.codes_of(affine, 1, 4, 12, 12), check_trace=False)
    for size in (12, 9, 10, 7):
        codes = tools.codes_of(affine, 2, 4, size, size + 1)
        want = torch.nn.functional.max_pool2d(codes.float(), kernel, stride, padding).to(U8)
        assert torch.equal(layer(codes), want)
        assert torch.equal(traced(codes), want)


@pytest.mark.parametrize(("inputs", "outputs", "batch"), [(576, 144, 1), (24, 96, 16), (8, 3, 2)])
@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "hardswish", "silu", "gelu"])
@torch.no_grad()
def test_convolutions_of_one_place_are_plain_products(inputs, outputs, batch, activation):
    """As in squeeze-and-excitation: where an int8 kernel takes longer to call than to compute."""
    torch.manual_seed(inputs)
    x, y = Affine(0.02, 117), Affine(0.03, 40)
    layer = Int8Conv2d.from_float(nn.Conv2d(inputs, outputs, 1), x=x, epilogue=Epilogue(y, activation))
    layer.expected_shape = (1, inputs, 1, 1)
    codes = torch.randint(0, 256, (batch, inputs, 1, 1), dtype=torch.uint8)
    bind_kernels(layer, "reference")
    exact = layer(codes)
    bind_kernels(layer, "auto")
    assert layer.kernels.name == "plain"
    found = layer(codes)
    assert found.shape == exact.shape and found.dtype == torch.uint8
    assert (found.int() - exact.int()).abs().max() <= 1
    assert (found != exact).float().mean() < 0.01
    wider = torch.randint(0, 256, (1, inputs, 3, 2), dtype=torch.uint8)
    bound = layer(wider)
    bind_kernels(layer, "reference")
    assert (bound.int() - layer(wider).int()).abs().max() <= 1  # it is right for other sizes, too
