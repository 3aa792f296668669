"""Scales and bits of weights and activations, as a recipe asks for them."""

import pytest
import torch
from torch import nn

from dlkit.quantize import Recipe
from dlkit.quantize.int8 import bind_kernels

BACKENDS = ("x86", "fbgemm", "onednn", "qnnpack")


@pytest.mark.parametrize("is_per_channel", [True, False])
def test_weights_have_a_scale_per_channel_unless_asked_otherwise(tools, is_per_channel):
    """Channels of very different size, as depthwise layers have them, are lost with one scale."""
    layer = nn.Conv2d(16, 16, 3, groups=16, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(0, -3, 16).view(-1, 1, 1, 1))
    recipe = Recipe("static", "x86", "minmax", is_per_channel=is_per_channel, reduce="weights")
    program = tools.quantized(nn.Sequential(layer).eval(), tools.batches(8, 16, 8, 8), recipe)
    found = program.get_submodule("0")
    assert len(found.weight_scale) == (16 if is_per_channel else 1)
    smallest = int(found.weight[-1].abs().max())
    assert smallest >= 63 if is_per_channel else smallest == 0


@pytest.mark.parametrize(("reduce", "weights", "activations"), [
    ("weights", 63, 255), ("activations", 127, 127), ("none", 127, 255),
])  # fmt: skip
def test_who_gives_up_a_bit(tools, reduce, weights, activations):
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    data = [torch.linspace(0, 1, 64).view(1, 1, 8, 8)]
    program = tools.quantized(nn.Sequential(layer).eval(), data, Recipe("static", "x86", "minmax", reduce=reduce))
    found = program.get_submodule("0")
    assert int(found.weight.max()) == weights
    assert 1 / activations == pytest.approx(found.x.scale, rel=0.01)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduce", ["weights", "activations"])
@pytest.mark.parametrize("groups", [1, 8, 128])
def test_no_kernel_saturates(tools, groups, reduce, backend):
    """All inputs and all weights at their largest: the sums must be those of whole numbers."""
    channels = 128
    layer = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
    nn.init.ones_(layer.weight)
    data = [torch.ones(2, channels, 6, 6), torch.zeros(2, channels, 6, 6)]
    recipe = Recipe("static", backend, "minmax", reduce=reduce)
    with torch.no_grad():
        program = tools.quantized(nn.Sequential(layer, nn.ReLU()).eval(), data, recipe)
        found = program(data[0])
        bind_kernels(program, "reference")
        expected = program(data[0])
    assert torch.allclose(found, expected, rtol=1e-5)
    assert torch.allclose(found, layer(data[0]), rtol=0.01)
