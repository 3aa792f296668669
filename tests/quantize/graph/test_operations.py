"""Every operation that has an int8 form, between two layers: near torch's float, on codes, in all the ways it can be written."""

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

INT8_LAYERS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 1.0),
    "hardswish": nn.Hardswish(),
    "hardswish in place": nn.Hardswish(inplace=True),
    "hardsigmoid": nn.Hardsigmoid(),
    "silu": nn.SiLU(inplace=True),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU("tanh"),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "elu": nn.ELU(0.5),
    "leaky": nn.LeakyReLU(0.2, inplace=True),
    "prelu": nn.PReLU(),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(2.0, 3.0),
    "selu": nn.SELU(),
    "celu": nn.CELU(0.7),
    "logsigmoid": nn.LogSigmoid(),
    "softsign": nn.Softsign(),
    "hardshrink": nn.Hardshrink(),
    "softshrink": nn.Softshrink(),
    "max": nn.MaxPool2d(2),
    "max with all options": nn.MaxPool2d((3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True),
    "max of one place": nn.MaxPool2d(1, 2),
    "average": nn.AvgPool2d(2),
    "average with all options": nn.AvgPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True, count_include_pad=False),
    "average that counts padding": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "adaptive": nn.AdaptiveAvgPool2d((2, 3)),
    "adaptive list": nn.AdaptiveAvgPool2d([2, 2]),
    "nearest": nn.Upsample(scale_factor=2),
    "nearest exact": nn.Upsample((9, 4), mode="nearest-exact"),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear to a size": nn.Upsample((9, 4), mode="bilinear", align_corners=True),
    "bilinear by its old name": nn.UpsamplingBilinear2d(scale_factor=2),
    "shuffle": nn.PixelShuffle(2),
    "unshuffle": nn.PixelUnshuffle(2),
    "channels": nn.ChannelShuffle(2),
    "flatten": nn.Flatten(),
    "zeros around": nn.ZeroPad2d((0, 1, 2, 1)),
    "constant 0": nn.ConstantPad2d(1, 0.0),
    "norm": nn.BatchNorm2d(8),
    "conv norm": nn.Sequential(nn.Conv2d(8, 8, 3, groups=4), nn.BatchNorm2d(8), nn.SiLU()),
    "transposed": nn.ConvTranspose2d(8, 8, 3, 2, 1, 1),
    "transposed groups": nn.ConvTranspose2d(8, 4, 2, 2, groups=4),
    "transposed norm": nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU()),
    "nothing": nn.Sequential(nn.Dropout(), nn.Identity(), nn.Dropout2d()),
    "same": nn.Conv2d(8, 8, 3, padding="same"),
    "valid": nn.Conv2d(8, 8, 3, padding="valid", dilation=2),
}
FLOAT_LAYERS = {
    "prelu of channels": nn.PReLU(8),
    "softmax": nn.Softmax(1),
    "average with a divisor": nn.AvgPool2d(2, divisor_override=3),
    "adaptive of one side": nn.AdaptiveAvgPool2d((None, 1)),
    "adaptive max": nn.AdaptiveMaxPool2d(2),
    "group norm": nn.GroupNorm(2, 8),
    "layer norm": nn.LayerNorm(6),
    "padding": nn.ReflectionPad2d(1),
    "same even": nn.Conv2d(8, 8, 2, padding="same"),
    "reflect": nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
    "hardtanh without 0": nn.Hardtanh(0.2, 1.0),
}
INT8_FUNCTIONS = {
    "x + 1": lambda x: x + 1,
    "1 + x": lambda x: 1 + x,
    "x - 1": lambda x: x - 1,
    "1 - x": lambda x: 1 - x,
    "x * 0.5": lambda x: x * 0.5,
    "2 * x": lambda x: 2 * x,
    "x / 3": lambda x: x / 3,
    "add": lambda x: torch.add(x, 2),
    "other=": lambda x: x.mul(other=3),
    "add_": lambda x: x.add_(2),
    "hard swish by hand": lambda x: x * F.relu6(x + 3) / 6,
    "x + x": lambda x: x + x,
    "x * x": lambda x: x * x,
    "x + 2x": lambda x: torch.add(x, x * 2),
    "iadd": lambda x: operator.iadd(x, x.flip(1)),
    "imul": lambda x: operator.imul(x, x.roll(1, 2)),
    "relu": F.relu,
    "relu True": lambda x: F.relu(x, True),
    "relu_": F.relu_,
    "torch.relu_": torch.relu_,
    "x.relu_": lambda x: x.relu_(),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 1.0),
    "hardtanh kwargs": lambda x: F.hardtanh(x, max_val=0.5, min_val=-2),
    "hardtanh_": lambda x: F.hardtanh_(x, 0.0, 6.0),
    "clamp": lambda x: x.clamp(-0.5, 1),
    "clamp max": lambda x: torch.clamp(x, max=1.0),
    "clamp min": lambda x: x.clamp(min=-0.2),
    "clamp_": lambda x: x.clamp_(0, 1),
    "clip": lambda x: x.clip(0, 1),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_max": lambda x: torch.clamp_max(x, 1),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": lambda x: F.silu(x, inplace=True),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "F.sigmoid": F.sigmoid,
    "x.sigmoid_": lambda x: x.sigmoid_(),
    "tanh": lambda x: x.tanh(),
    "mish": F.mish,
    "softplus": F.softplus,
    "softplus 2, 3": lambda x: F.softplus(x, 2, 3),
    "elu 0.5": lambda x: F.elu(x, 0.5),
    "elu_": lambda x: F.elu_(x, 0.5),
    "celu": lambda x: torch.celu(x, 0.5),
    "leaky 0.2": lambda x: F.leaky_relu(x, 0.2),
    "leaky_": lambda x: F.leaky_relu_(x, 0.2),
    "leaky kwargs": lambda x: F.leaky_relu(x, negative_slope=0.2, inplace=True),
    "selu": F.selu,
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "max": lambda x: F.max_pool2d(x, 2),
    "max options": lambda x: F.max_pool2d(x, 3, 2, 1, 1, True),
    "torch.max": lambda x: torch.max_pool2d(x, 3, 2, 1, 1, True),
    "max kwargs": lambda x: F.max_pool2d(x, kernel_size=(2, 3), stride=1, padding=1, dilation=2),
    "average": lambda x: F.avg_pool2d(x, 2),
    "average options": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    "average kwargs": lambda x: F.avg_pool2d(x, kernel_size=3, padding=1, stride=(1, 2)),
    "max of images without channels": lambda x: F.max_pool2d(x.flatten(0, 1), 2).unflatten(0, (-1, 8)),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive list": lambda x: F.adaptive_avg_pool2d(x, [2, 1]),
    "mean": lambda x: x.mean([2, 3]),
    "mean keepdim": lambda x: x.mean((2, 3), keepdim=True),
    "mean from behind": lambda x: torch.mean(x, (-1, -2), True),
    "mean of means": lambda x: x.mean(3).mean(2),
    "mean of means keepdim": lambda x: x.mean(2, True).mean(3, True),
    "broadcast product": lambda x: x * x.mean((2, 3), keepdim=True),
    "broadcast sum": lambda x: x.mean((2, 3), keepdim=True) + x,
    "cat": lambda x: torch.cat([x, F.relu(x)], 1),
    "cat kwargs": lambda x: torch.concat(tensors=(x, x * 2), dim=-3),
    "cat of one": lambda x: torch.cat([x], 1),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest size": lambda x: F.interpolate(x, size=(12, 7), mode="nearest"),
    "nearest like": lambda x: F.interpolate(x, size=x.shape[2:]),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear like": lambda x: F.interpolate(
        F.avg_pool2d(x, 4), size=x.shape[-2:], mode="bilinear", align_corners=False
    ),
    "bilinear to computed sizes": lambda x: F.interpolate(x, (x.shape[2] * 2, x.size(3) // 2), None, "bilinear", True),
    "smaller": lambda x: F.interpolate(x, (3, 4), mode="bilinear", antialias=True),
    "bicubic": lambda x: F.interpolate(input=x, size=[7, 9], mode="bicubic"),
    "area": lambda x: F.interpolate(x, 3, mode="area"),
    "nearest exact": lambda x: F.interpolate(x, 9, mode="nearest-exact"),
    "view": lambda x: x.view(x.size(0), 2, 4, 6, 6).transpose(1, 2).reshape(x.size(0), 8, 6, 6),
    "view flat": lambda x: x.view(x.shape[0], -1),
    "slice": lambda x: x[:, 1:5],
    "narrow": lambda x: x.narrow(1, 0, 4),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "permute": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
    "movedim": lambda x: x.movedim(1, -1).swapaxes(1, -1),
    "unflatten": lambda x: x.unflatten(1, (2, 4)).flatten(1, 2),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "pad": lambda x: F.pad(x, (0, 1, 2, 1)),
    "pad by name": lambda x: F.pad(input=x, pad=[1, 1], mode="constant", value=0.0),
    "crop": lambda x: F.pad(x, (-1, 0, 1, -1)),
}
FLOAT_FUNCTIONS = {
    "softmax": lambda x: F.softmax(x, 1),
    "sub": lambda x: x - F.relu(x),
    "alpha": lambda x: torch.add(x, x, alpha=3),
    "1 / x": lambda x: 1 / (x + 20),
    "max with places": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "average divisor": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False, 5),
    "average divisor kwargs": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "adaptive of one side": lambda x: F.adaptive_avg_pool2d(x, (None, 1)),
    "mean of rows": lambda x: x.mean(3),
    "mean axis": lambda x: x.mean(axis=(2, 3)),
    "cat axis": lambda x: torch.cat([x, x], axis=1),
    "stack": lambda x: torch.stack([x, x * 9], 1).flatten(1, 2),
    "cat of chunks": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "pad of ones": lambda x: F.pad(x, (1, 1), value=1.0),
    "reflecting pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "where": lambda x: torch.where(x > 0, x, x * 2),
    "prelu": lambda x: F.prelu(x, torch.full((1,), 0.2)),
    "attribute": lambda x: x.mT,
    "clamp without 0": lambda x: x.clamp(0.2, 1),
    "dtype": lambda x: x + torch.full((6,), 0.5, dtype=x.dtype),
    "layer norm": lambda x: F.layer_norm(x, [6]),
    "rms": lambda x: x * x.square().mean(1, True).rsqrt(),
    "dropout that trains": lambda x: F.dropout(x, 1e-9, True, False),
    "abs": torch.abs,
}
LEAST_DB = 25  # a right program gives 30 to 50 dB, a wrong one less than 15
SHAPES = {1: (4, 8, 12), 2: (4, 8, 6, 6), 3: (2, 8, 6, 6, 6)}


def warmed(network, data):
    """In evaluation mode, with batch norms that have seen the inputs, and whose weights do show when a norm is left out."""
    with torch.no_grad():
        for batch in data:
            network.train()(batch)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network.eval()


def check(tools, middle, *, is_int8, num=2):
    data = tools.batches(*SHAPES[num])
    network = warmed(tools.Sandwich(middle, SHAPES[num]), data)
    found, program = tools.compared(network, data)
    assert found > LEAST_DB
    assert (tools.borders(program) == (1, 0)) is is_int8
    with torch.no_grad():
        assert torch.equal(program(data[0][:2]), program(data[0])[:2])


@pytest.mark.parametrize("name", INT8_LAYERS)
def test_layers_on_codes(tools, name):
    check(tools, INT8_LAYERS[name], is_int8=True)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", FLOAT_LAYERS)
def test_layers_in_float(tools, name):
    check(tools, FLOAT_LAYERS[name], is_int8=False)


@pytest.mark.parametrize("name", INT8_FUNCTIONS)
def test_functions_on_codes(tools, name):
    check(tools, INT8_FUNCTIONS[name], is_int8=True)


@pytest.mark.parametrize("name", FLOAT_FUNCTIONS)
def test_functions_in_float(tools, name):
    check(tools, FLOAT_FUNCTIONS[name], is_int8=False)


def of(kind, num, *args, **options):
    return getattr(nn, f"{kind}{num}d")(*args, **options)


OTHER_DIMENSIONS = {
    "conv": lambda num: of("Conv", num, 8, 8, 3, padding=1, groups=2),
    "conv stride": lambda num: of("Conv", num, 8, 4, 3, stride=2, dilation=1, bias=False),
    "conv norm": lambda num: nn.Sequential(of("Conv", num, 8, 8, 3), of("BatchNorm", num, 8), nn.SiLU()),
    "norm": lambda num: of("BatchNorm", num, 8),
    "transposed": lambda num: of("ConvTranspose", num, 8, 8, 3, 2, 1, 1),
    "transposed groups": lambda num: of("ConvTranspose", num, 8, 8, 2, 2, groups=4),
    "max": lambda num: of("MaxPool", num, 3, 2, 1, ceil_mode=True),
    "average": lambda num: of("AvgPool", num, 3, 2, 1, True, False),
    "adaptive": lambda num: of("AdaptiveAvgPool", num, 2),
    "nearest": lambda num: nn.Upsample(scale_factor=2),
    "linear": lambda num: nn.Upsample(scale_factor=2, mode={1: "linear", 3: "trilinear"}[num]),
    "dropout": lambda num: of("Dropout", num),
    "F.max": lambda num: lambda x: getattr(F, f"max_pool{num}d")(x, 2),
    "F.average": lambda num: lambda x: getattr(F, f"avg_pool{num}d")(x, 3, 2, 1),
    "F.adaptive": lambda num: lambda x: getattr(F, f"adaptive_avg_pool{num}d")(x, 1),
    "mean": lambda num: lambda x: x.mean(tuple(range(2, num + 2)), keepdim=True) * x,
    "sum": lambda num: lambda x: x + torch.tanh(x),
}


@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize("name", OTHER_DIMENSIONS)
def test_one_and_three_dimensions(tools, name, num):
    check(tools, OTHER_DIMENSIONS[name](num), is_int8=True, num=num)
