"""Every kind of layer in int8 against float, on every engine: torch's kernels are not all there, and not all right."""

import operator
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlkit.quantize import Recipe, convert, layer_statuses, observe_network

ENGINES = ("x86", "fbgemm", "onednn", "qnnpack")
OTHERS_SLOW = ["x86", *(pytest.param(name, marks=pytest.mark.slow) for name in ENGINES[1:])]
LEAST_DB = 25  # a right kernel gives 30 to 45 dB, a wrong one less than 15

LAYERS = {
    "conv1d": nn.Conv1d(8, 16, 3, padding=1, stride=2),
    "conv1d groups": nn.Sequential(nn.Conv1d(8, 16, 3, groups=4, dilation=2), nn.ReLU()),
    "conv1d bn": nn.Sequential(nn.Conv1d(8, 16, 3), nn.BatchNorm1d(16), nn.ReLU()),
    "conv2d dilated": nn.Conv2d(8, 16, 3, dilation=2, padding=2),
    "conv2d same": nn.Conv2d(8, 16, 3, padding="same"),
    "conv2d same even": nn.Conv2d(8, 16, 2, padding="same"),
    "conv2d valid": nn.Conv2d(8, 16, 3, padding="valid"),
    "conv2d reflect": nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect"),
    "conv2d circular": nn.Conv2d(8, 16, 3, padding=1, padding_mode="circular"),
    "conv2d long": nn.Conv2d(8, 16, (1, 7), padding=(0, 3), stride=(2, 1)),
    "conv2d no bias": nn.Conv2d(8, 16, 3, bias=False),
    "depthwise": nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6()),
    "depthwise 5": nn.Conv2d(8, 8, 5, padding=2, stride=2, groups=8),
    "depthwise twice": nn.Conv2d(8, 16, 3, padding=1, groups=8),
    "transposed": nn.ConvTranspose2d(8, 16, 2, stride=2),
    "transposed same": nn.ConvTranspose2d(8, 8, 2, stride=2),
    "transposed groups": nn.ConvTranspose2d(8, 16, 3, stride=2, groups=4, output_padding=1),
    "conv3d": nn.Sequential(nn.Conv3d(8, 8, 3, padding=1), nn.ReLU()),
    "conv3d groups": nn.Conv3d(8, 8, 3, groups=8, stride=2),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, 16), nn.ReLU()),
    "linear bn": nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, 16), nn.BatchNorm1d(16)),
    "linear no bias": nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, 16, bias=False)),
    "batch norm": nn.BatchNorm2d(8),
    "group norm": nn.GroupNorm(2, 8),
    "instance norm": nn.InstanceNorm2d(8, affine=True),
    "layer norm": nn.LayerNorm(6),
}  # fmt: skip
LAYERS |= {
    type(layer).__name__: layer
    for layer in (
        nn.ReLU6(), nn.Hardtanh(), nn.Hardswish(), nn.Hardsigmoid(), nn.Sigmoid(), nn.Tanh(), nn.ELU(), nn.LeakyReLU(0.2), nn.PReLU(),
        nn.SiLU(), nn.GELU(), nn.Mish(), nn.Softplus(), nn.Softmax(1), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveMaxPool2d(2), nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.ChannelShuffle(2), nn.ReflectionPad2d(1),
    )
}  # fmt: skip
LAYERS["AvgPool2d without padding"] = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

FUNCTIONS = {
    "x + 1": lambda x: x + 1,
    "x * 0.5": lambda x: x * 0.5,
    "x + 2x": lambda x: x + x * 2,
    "1 - x": lambda x: 1 - x,
    "x / 3": lambda x: x / 3,
    "mean": lambda x: x.mean([2, 3], keepdim=True) * x,
    "cat": lambda x: torch.cat([x, F.relu(x)], 1),
    "cat of a split": lambda x: torch.cat(torch.split(x, 4, 1), 0),
    "cat of chunks": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "stack": lambda x: torch.stack([x, x * 9], 1).flatten(1, 2),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "clamp": lambda x: x.clamp(-0.5, 1),
    "clamp read twice": lambda x: x + F.relu6(x),
    "relu in place": lambda x: x.relu_(),
    "silu": F.silu,
    "softmax": lambda x: F.softmax(x, 1),
    "sigmoid": lambda x: torch.sigmoid(x) * x,
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "avg_pool without padding": lambda x: F.avg_pool2d(x, 3, 1, 1, False, False),
    "pad": lambda x: F.pad(x, (1, 1)),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "einsum": lambda x: torch.einsum("nchw,nchv->nchv", x, x),
    "layer_norm": lambda x: F.layer_norm(x, [6]),
    "reshape": lambda x: x.view(x.size(0), 2, 4, 6, 6).transpose(1, 2).reshape(x.size(0), 8, 6, 6),
    "slice": lambda x: x[:, 1:5],
    "iadd": lambda x: operator.iadd(x, x.flip(1)),
    "prelu": lambda x: F.prelu(x, torch.full((1,), 0.2)),
    "where": lambda x: torch.where(x > 0, x, x * 2),
}


class Sandwich(nn.Module):
    """A convolution, the layer or function, and something int8 behind it, which decides how torch.ao sees the middle."""

    def __init__(self, middle, shape):
        super().__init__()
        self.before = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[len(shape)](8, 8, 1)
        self.middle = middle
        out = middle(self.before(torch.randn(shape)))
        kinds = {2: nn.Linear, 3: lambda *sizes: nn.Conv1d(*sizes, 1), 4: lambda *sizes: nn.Conv2d(*sizes, 1)}
        kinds[5] = lambda *sizes: nn.Conv3d(*sizes, 1)
        self.after = kinds[out.dim()](out.shape[1], 3)

    def forward(self, x):
        return self.after(self.middle(self.before(x)))


def shape_for(layer):
    text = str(layer)
    return (4, 8, 20) if "1d(8" in text else (2, 8, 6, 6, 6) if "3d(8" in text else (4, 8, 6, 6)


def sqnr_db(network, backend, shape):
    torch.manual_seed(0)
    data = [torch.randn(shape) for _ in range(2)]
    recipe = Recipe("static", backend, "minmax", reduce="weights")
    with torch.no_grad():
        quantized = convert(observe_network(network, recipe, data), recipe)
        expected, found = network(data[0]), quantized(data[0])
    has_int8 = any(row.is_int8 for row in layer_statuses(network, quantized, recipe))
    assert has_int8 or (backend == "qnnpack" and len(shape) == 5)  # which could not be stored
    return float(20 * torch.log10(expected.norm() / (expected - found).norm()))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("backend", OTHERS_SLOW)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, backend):
    torch.manual_seed(1)
    layer = LAYERS[name]
    shape = shape_for(layer)
    network = Sandwich(layer, shape).train()
    for _ in range(3):
        network(torch.randn(shape))  # statistics for batch norms
    assert sqnr_db(network.eval(), backend, shape) > LEAST_DB


@pytest.mark.parametrize("backend", ["x86", pytest.param("qnnpack", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, backend):
    torch.manual_seed(1)
    shape = (4, 8, 6, 6)
    assert sqnr_db(Sandwich(FUNCTIONS[name], shape).eval(), backend, shape) > LEAST_DB


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("reduce", ["weights", "activations"])
@pytest.mark.parametrize("groups", [1, 8, 128])
def test_no_kernel_saturates(groups, reduce, backend):
    """All inputs and all weights at their largest: the sums must be those of whole numbers (trap 4.1)."""
    channels = 128
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
    nn.init.ones_(conv.weight)
    data = [torch.ones(2, channels, 6, 6), torch.zeros(2, channels, 6, 6)]
    recipe = Recipe("static", backend, "minmax", reduce=reduce)
    with torch.no_grad():
        quantized = convert(observe_network(nn.Sequential(conv), recipe, data), recipe)
        weight = quantized.get_submodule("0").weight()
        inputs = torch.quantize_per_tensor(data[0], *input_grid(quantized), torch.quint8)
        expected = whole_number_convolution(inputs, weight, groups)
        found = quantized(data[0])
    step = float(quantized.get_submodule("0").scale)
    assert int(inputs.int_repr().max()) == (255 if reduce == "weights" else 127)
    assert int(weight.int_repr().max()) == (64 if reduce == "weights" else 127)
    assert (found - expected.clamp(max=255 * step)).abs().max() <= step


def input_grid(quantized):
    state = quantized.state_dict()
    return float(state["0_input_scale_0"]), int(state["0_input_zero_point_0"])


def whole_number_convolution(inputs, weight, groups):
    """The sums in 64 bits, scaled to float."""
    sums = F.conv2d(
        (inputs.int_repr().double() - inputs.q_zero_point()), weight.int_repr().double(), padding=1, groups=groups
    )
    scales = weight.q_per_channel_scales() * inputs.q_scale()
    return (sums * scales.view(1, -1, 1, 1)).float()


def test_eight_bits_for_both_saturate_depthwise_kernels():
    """The reason for the rest: fbgemm's depthwise kernels are the same on a CPU with VNNI."""
    if "fbgemm" not in torch.backends.quantized.supported_engines or not torch.cpu._is_avx2_supported():
        pytest.skip("no fbgemm here")
    conv = nn.Conv2d(128, 128, 3, padding=1, groups=128, bias=False)
    nn.init.ones_(conv.weight)
    data = [torch.ones(2, 128, 6, 6)]
    recipe = Recipe("static", "x86", "minmax", reduce="none")
    with torch.no_grad():
        quantized = convert(observe_network(nn.Sequential(conv), recipe, data), recipe)
        assert quantized(data[0])[0, 0, 3, 3] < 0.7 * conv(data[0])[0, 0, 3, 3]


WITHOUT_VNNI = """
import torch
from torch import nn
from dlkit.quantize import Recipe, convert, observe_network
torch.set_grad_enabled(False)
x = [torch.ones(2, 16, 6, 6)]
for backend in ("x86", "onednn"):
    for reduce in ("none", "weights", "activations"):
        conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        nn.init.ones_(conv.weight)
        recipe = Recipe("static", backend, "minmax", reduce=reduce)
        found = convert(observe_network(nn.Sequential(conv), recipe, x), recipe)(x[0])[0, 0, 3, 3]
        print(reduce, float(found / conv(x[0])[0, 0, 3, 3]))
"""


@pytest.mark.slow
def test_without_vnni_all_kernels_saturate_unless_a_bit_is_given_up():
    """oneDNN can be held to the instructions of older CPUs, where eight bits for both give half of the sum."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VNNI],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    results = [line.split() for line in done.stdout.splitlines()]
    assert len(results) == 6
    for reduce, ratio in results:
        assert float(ratio) < 0.7 if reduce == "none" else float(ratio) == pytest.approx(1, abs=0.01)
